"""Zero-cost scores of a net of two linear layers with a ReLU between, ``W2 relu(W1 x)``, in float64 loops.

Everything is written out from the formulas; derivatives are the chain rule by hand, the Hessian finite differences.
"""

import itertools
import math

import numpy as np


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def forward(w1, w2, x):
    hidden = [[sum(w1[i][j] * image[j] for j in range(len(image))) for i in range(len(w1))] for image in x]
    positive = [[max(0.0, value) for value in row] for row in hidden]
    logits = [[sum(w2[c][i] * row[i] for i in range(len(row))) for c in range(len(w2))] for row in positive]
    return np.array(hidden), np.array(positive), np.array(logits)


def gradients(w1, w2, x, y):
    """∂L/∂w1, ∂L/∂w2 of the mean cross-entropy, and ∂L/∂hidden, ∂L/∂logits by image."""
    hidden, positive, logits = forward(w1, w2, x)
    n = len(x)
    by_logits = np.zeros_like(logits)
    for image in range(n):
        by_logits[image] = softmax(logits[image]) / n
        by_logits[image, y[image]] -= 1 / n
    g2, g1, by_hidden = np.zeros_like(w2), np.zeros_like(w1), np.zeros_like(hidden)
    for image in range(n):
        for c in range(len(w2)):
            for i in range(len(w1)):
                g2[c, i] += by_logits[image, c] * positive[image, i]
                if hidden[image, i] > 0:
                    by_hidden[image, i] += by_logits[image, c] * w2[c, i]
        for i in range(len(w1)):
            for j in range(x.shape[1]):
                g1[i, j] += by_hidden[image, i] * x[image, j]
    return g1, g2, by_hidden, by_logits


def grad_norm(w1, w2, x, y):
    return sum(math.sqrt((g**2).sum()) for g in gradients(w1, w2, x, y)[:2])


def l2_norm(w1, w2, x, y):
    return math.sqrt((w1**2).sum()) + math.sqrt((w2**2).sum())


def params(w1, w2, x, y):
    return w1.size + w2.size


def flops(w1, w2, x, y):
    return 2 * (w1.size + w2.size)


def snip(w1, w2, x, y):
    g1, g2, *_ = gradients(w1, w2, x, y)
    return np.abs(w1 * g1).sum() + np.abs(w2 * g2).sum()


def grasp(w1, w2, x, y):
    """−wᵀ H g = −wᵀ d/dt g(w + t g) at t = 0."""
    g1, g2, *_ = gradients(w1, w2, x, y)
    t = 1e-6
    up, down = (gradients(w1 + s * g1, w2 + s * g2, x, y)[:2] for s in (t, -t))
    return -sum((w * (a - b) / (2 * t)).sum() for w, a, b in zip((w1, w2), up, down, strict=True))


def channels_once(activations, gradient):
    """½ mean_n (Σ_positions a · ∂L/∂a)², summed over channels; ``(n, channels)`` or ``(n, channels, h, w)``."""
    total, n = 0.0, len(activations)
    for channel in range(activations.shape[1]):
        for image in range(n):
            by_position = activations[image, channel] * gradient[image, channel]
            total += 0.5 * sum(np.atleast_1d(by_position).flatten().tolist()) ** 2 / n
    return total


def fisher(w1, w2, x, y):
    hidden, _, logits = forward(w1, w2, x)
    _, _, by_hidden, by_logits = gradients(w1, w2, x, y)
    return channels_once(hidden, by_hidden) + channels_once(logits, by_logits)


def fisher_released(w1, w2, x, y):
    """A channel of the first layer has as many weights as x has numbers, one of the second as the first has outputs."""
    hidden, _, logits = forward(w1, w2, x)
    _, _, by_hidden, by_logits = gradients(w1, w2, x, y)
    return w1.shape[1] * channels_once(hidden, by_hidden) + w2.shape[1] * channels_once(logits, by_logits)


def convolved(kernel, image):
    """``kernel`` ``(o, i, 3, 3)`` over ``image`` ``(i, h, w)``, padded with one zero on each side; ``(o, h, w)``."""
    _, height, width = image.shape
    result = np.zeros((len(kernel), height, width))
    for o, channel, row, column, dy, dx in itertools.product(*map(range, (len(kernel), *image.shape, 3, 3))):
        y, x = row + dy - 1, column + dx - 1
        if 0 <= y < height and 0 <= x < width:
            result[o, row, column] += kernel[o, channel, dy, dx] * image[channel, y, x]
    return result


def fisher_of_convolution(kernel, w2, x, y, *, weights_per_channel):
    """Of ``w2 relu(kernel * x)``. ``weights_per_channel``: how often a channel of the two layers counts."""
    n, total = len(x), 0.0
    hidden = np.array([convolved(kernel, image) for image in x])
    logits = np.array([[float((row * np.maximum(0, h).flatten()).sum()) for row in w2] for h in hidden])
    by_logits = np.array([softmax(row) / n for row in logits])
    for image in range(n):
        by_logits[image, y[image]] -= 1 / n
    by_hidden = np.array([sum(by_logits[i, c] * w2[c] for c in range(len(w2))) for i in range(n)]).reshape(hidden.shape)
    by_hidden = np.where(hidden > 0, by_hidden, 0)
    for times, a, gradient in zip(weights_per_channel, (hidden, logits), (by_hidden, by_logits), strict=True):
        total += times * channels_once(a, gradient)
    return total


def synflow(w1, w2, x, y):
    """Two layers: 2 R, R = 1ᵀ |W2| |W1| 1."""
    return 2 * (np.abs(w2) @ np.abs(w1)).sum()


def jacob_cov(w1, w2, x, y):
    hidden, *_ = forward(w1, w2, x)
    jacobian = np.array([((w2.sum(0) * (row > 0))[:, None] * w1).sum(0) for row in hidden])
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian)) + 1e-5
    return -(np.log(eigenvalues) + 1 / eigenvalues).sum()


def naswot(w1, w2, x, y):
    hidden, *_ = forward(w1, w2, x)
    kernel = [[sum((a > 0) == (b > 0) for a, b in zip(one, other, strict=True)) for other in hidden] for one in hidden]
    return math.log(abs(np.linalg.det(np.array(kernel, dtype=float))))


def zico(w1, w2, x, y):
    half = len(x) // 2
    parts = [gradients(w1, w2, x[:half], y[:half])[:2], gradients(w1, w2, x[half:], y[half:])[:2]]
    total = 0.0
    for layer in range(2):
        a, b = parts[0][layer], parts[1][layer]
        mean, std = (np.abs(a) + np.abs(b)) / 2, np.abs(a - b) / 2
        total += math.log((mean[std > 0] / std[std > 0]).sum())
    return total
