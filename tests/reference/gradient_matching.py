"""Distances (DC, eq. 9 and its ablations) and algorithm 1, number by number in float64."""

import math

import torch

EPSILON = 1e-6


def node_rows(tensor):
    """A layer's gradient as one list of numbers per output node: conv (out, in, h, w), linear (out, in)."""
    return [[float(v) for v in node.flatten()] for node in tensor.double()]  # a bias has one number per node


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return dot / (norms + EPSILON)


def layerwise_cosine(synthetic, real, layer_weights):
    total = 0.0
    for s, r, weight in zip(synthetic, real, layer_weights, strict=True):
        for a, b in zip(node_rows(s), node_rows(r), strict=True):
            total += weight * (1 - cosine(a, b))
    return total


def joined(gradients, layer_weights):
    return [
        math.sqrt(weight) * value
        for gradient, weight in zip(gradients, layer_weights, strict=True)
        for row in node_rows(gradient)
        for value in row
    ]


def flat_cosine(synthetic, real, layer_weights):
    return 1 - cosine(joined(synthetic, layer_weights), joined(real, layer_weights))


def mse(synthetic, real, layer_weights):
    pairs = zip(joined(synthetic, layer_weights), joined(real, layer_weights), strict=True)
    return sum((a - b) ** 2 for a, b in pairs)


DISTANCES = {"layerwise_cosine": layerwise_cosine, "flat_cosine": flat_cosine, "mse": mse}
DISTANCES |= {"flat_cosine_all": flat_cosine, "mse_all": mse}  # of the gradients of all parameters


def weights_of(net, name="mse"):
    """What the distance ``name`` compares: every parameter, or the weights of convolutions and linear layers."""
    if name in ("flat_cosine_all", "mse_all"):
        return list(net.parameters())
    return [p for name, p in net.named_parameters() if p.ndim in (2, 4) and name.endswith("weight")]


def gradients(net, images, label, name="mse"):
    """∇ of −log softmax(net(x))[label], averaged over the images one by one."""
    weights = weights_of(net, name)
    total = [torch.zeros_like(w) for w in weights]
    for image in images:
        logits = net(image[None])[0]
        loss = -(logits[label] - torch.logsumexp(logits, 0))
        for accumulated, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            accumulated += gradient / len(images)
    return total


def image_gradient(net, synthetic, real, label, name, layer_weights, step=1e-5):
    """Derivative of the distance with respect to every pixel, by central differences."""
    layer_weights = layer_weights or (1.0,) * len(weights_of(net, name))
    target = gradients(net, real, label, name)
    result = torch.zeros_like(synthetic)
    flat, out = synthetic.clone(), result.view(-1)
    for index in range(flat.numel()):
        values = []
        for sign in (1, -1):
            moved = flat.clone()
            moved.view(-1)[index] += sign * step
            values.append(DISTANCES[name](gradients(net, moved, label, name), target, layer_weights))
        out[index] = (values[0] - values[1]) / (2 * step)
    return DISTANCES[name](gradients(net, synthetic, label, name), target, layer_weights), result


def condense(make_net, real_batch, images, *, counts, outer, inner, net_epochs, lr_img, momentum, lr_net):
    """Algorithm 1 in float64, class by class. ``make_net(k)`` and ``real_batch(k, t, c)`` supply the random parts."""
    images = images.double().clone()
    velocity = torch.zeros_like(images)
    num_classes = len(counts)
    labels = torch.arange(num_classes).repeat_interleave(torch.tensor(counts))
    distances = []
    for k in range(outer):
        net = make_net(k).double()
        for t in range(inner):
            total = 0.0
            step = torch.zeros_like(images)
            for c in range(num_classes):
                own = slice(sum(counts[:c]), sum(counts[: c + 1]))
                weights = weights_of(net)
                real = real_batch(k, t, c).double()
                target = torch.autograd.grad(
                    torch.nn.functional.cross_entropy(net(real), torch.full((len(real),), c)), weights
                )
                leaf = images[own].clone().requires_grad_()
                mine = torch.autograd.grad(
                    torch.nn.functional.cross_entropy(net(leaf), torch.full((counts[c],), c)),
                    weights,
                    create_graph=True,
                )
                distance = 0.0
                for a, b in zip(mine, target, strict=True):
                    for row_a, row_b in zip(a.flatten(1), b.flatten(1), strict=True):
                        distance = distance + 1 - (row_a @ row_b) / (row_a.norm() * row_b.norm() + EPSILON)
                (step[own],) = torch.autograd.grad(distance, leaf)
                total += distance.item()
            distances.append(total)
            velocity = momentum * velocity + step
            images = images - lr_img * velocity
            if t < inner - 1:
                for _ in range(net_epochs):
                    loss = torch.nn.functional.cross_entropy(net(images), labels)
                    for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
                        p.data -= lr_net * g
    return images, distances
