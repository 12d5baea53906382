"""Dataset condensation by gradient matching: Algorithm 1 of [DC], line by line.

For K freshly initialised nets, T times: match every class's gradient on the synthetic images with its gradient on a
fresh real batch, take one step on the images, then train the net for ς_θ epochs on the synthetic set.

All random numbers of a matching come from one stream that is named by (k, t), on the device. So a checkpoint holds no
generator state, and on a CPU a resumed build is bit-identical to an uninterrupted one. Only the distance, for the
progress bar, and checkpoints are read back from the device.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1. [DSA] Zhao,
Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasproxy.condense.accelerations import MatchingNets, early_recipe, representative_images
from nasproxy.condense.class_matching import match, matching_stream, plan_groups
from nasproxy.condense.contract import FIRST_ORDER, SECOND_ORDER, BuildRun, Condensed, Condenser
from nasproxy.condense.initial import initial_images, initial_labels
from nasproxy.condense.loop import Recorder
from nasproxy.condense.matching import net_loss
from nasproxy.condense.matching_nets import compiled_loss, freeze_on_real, train_net, train_net_on_real
from nasproxy.condense.matching_time import estimate_matching
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import activation_bytes, room
from nasproxy.core.devices import cpu_threads, float32_as
from nasproxy.core.randomness import derive_seed
from nasproxy.data import Dataset
from nasproxy.data.multi_formation import decode
from nasproxy.training.fit import num_updates


def gradient_matching(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """Learns images whose training gradients are like those of the real images of their class ([DC], algorithm 1).

    The method "dsa" is this algorithm with an augmentation, the same for the real and the synthetic images of a class
    in one matching ([DSA]).

    Returns:
        The set, with hard labels.

    Raises:
        NasproxyError: for settings that do not fit the data, a checkpoint of another build, or a distance that is not
            finite.
    """
    run = run.with_space(config)
    device, (inner_steps, _) = run.device, config.loops
    recorder = Recorder(dataset, config, run, note="distance", total=config.outer_steps * inner_steps)
    real = RealBatches(dataset, device)
    nets = MatchingNets(dataset, config, real, run.space)
    images = initial_images(dataset, config).to(device)
    velocity = torch.zeros_like(images)
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    loss = compiled_loss() if config.compile else net_loss
    chosen: Tensor | None = None  # real images by k-means, for several matchings
    position, saved = recorder.position, recorder.saved
    if saved:
        # Copied into memory of their own: where a tensor begins decides how a sum over it is ordered, so its last bits.
        images, velocity = (torch.empty_like(images).copy_(saved.pop(name)) for name in ("images", "velocity"))
        chosen = saved.pop("chosen").to(device) if "chosen" in saved else None

    def state() -> dict[str, Tensor]:
        tensors = {"images": images, "velocity": velocity}
        if inner + 1 < inner_steps:  # the same net is matched again
            tensors |= {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
            tensors |= {} if chosen is None else {"chosen": chosen}
        return tensors

    with float32_as(config.precision or "float32"), cpu_threads(config.threads):
        for outer in range(position.outer, config.outer_steps):  # K nets
            net = nets.draw(outer)
            if outer == position.outer or config.match_space is not None:
                groups = plan_groups(net, real, config, device)
                at_once = room(device) // activation_bytes(net, dataset.input_shape)
            first = position.inner if outer == position.outer else 0
            if first > 0:
                net.load_state_dict({name.removeprefix("net."): tensor for name, tensor in saved.items()})
            for inner in range(first, inner_steps):  # T matchings
                stream = matching_stream(config, outer, inner, device)
                freeze_on_real(net, real, config, stream)
                if config.real_choice == "kmeans" and inner % config.choice_interval == 0:
                    seed = derive_seed(config.seed, "representatives", outer, inner)
                    chosen = representative_images(net, real, config.batch_real, seed)
                distances, gradient = match(net, images, groups, real, config, stream, chosen=chosen, loss=loss)
                velocity.mul_(config.momentum_img).add_(gradient)
                images.sub_(velocity, alpha=config.image_lr)
                if inner + 1 < inner_steps:  # after the last matching the net is thrown away
                    if config.net_data == "real":
                        train_net_on_real(net, real, config, stream, at_once=at_once, loss=loss)
                    else:
                        seen = decode(images, config.formation)
                        train_net(net, seen, seen_labels, config, stream, at_once=at_once, loss=loss)
                done = outer * inner_steps + inner + 1
                reached = divmod(done, inner_steps)
                recorder.step_done(done, distances.sum(), {"images": images}, reached, state)
            recorder.outer_step_done(outer, lambda: images)
    return Condensed(images.cpu(), labels.cpu(), recorder.seconds)


def _passes(dataset: Dataset, config: CondenseConfig) -> float:
    inner, net_epochs = config.loops
    synthetic = config.num_seen(dataset.num_classes)
    matching = FIRST_ORDER * dataset.num_classes * config.batch_real + SECOND_ORDER * synthetic
    trained = config.batch_net if config.net_data == "real" else synthetic
    passes = float(config.outer_steps * (inner * matching + (inner - 1) * FIRST_ORDER * net_epochs * trained))
    if config.real_choice == "kmeans":
        passes += config.outer_steps * -(-inner // config.choice_interval) * len(dataset.train)
    if config.pool:
        recipe = early_recipe(config.pool_epochs)
        updates = num_updates(recipe, len(dataset.train)) * recipe.batch_size
        passes += FIRST_ORDER * min(config.pool, config.outer_steps) * updates
    return passes


METHOD = Condenser(gradient_matching, _passes, estimate=estimate_matching)
