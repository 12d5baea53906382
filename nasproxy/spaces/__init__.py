"""Search spaces: candidate architectures that a YAML file describes.

A file names a network family and the parameters that vary::

    name: convnet
    network: convnet                    # a name in NETWORKS, or my_nets.py:build, relative to this file
    parameters:
      width: [32, 64, 128]              # a list of choices: text, numbers, true/false, null
      depth: {range: [1, 4]}            # integers when both ends are; add step: 2, or log: true
      dropout: {range: [0.0, 0.5], step: 0.1, when: {depth: [3, 4]}}    # active at these depths only
      norm: {choices: [batch, group], when: {width: 128}}
      activation: relu                  # a single value is a constant
    limits: {max_params: 5_000_000}     # and max_flops, per image

A step must divide its range. A parameter whose ``when`` is not fulfilled is inactive, and so is a child of an inactive
parameter; the default of the network family applies. A user's function has the signature of a family,
``build(input_shape, num_classes, **options)``. Its file may import others of its folder. The contents of all of them
are part of the space's hash and of every candidate's id.

Wherever a space is named, parameters can be set: ``convnet_space:norm=batch,depth=2`` is that part of the space, and
``nasbench201_space:cells=1,channels=4`` a cheaper skeleton.

torch, optuna and the YAML parser are imported inside functions, because the command line imports this package to list
the spaces, and ``nasproxy --help`` must be fast.
"""

from nasproxy.spaces.inspection import (
    NetSize,
    SpaceInspection,
    inspect_space,
    num_flops,
    sample_of_functions,
    uniform_sample,
)
from nasproxy.spaces.model import Candidate, Limits, SearchSpace
from nasproxy.spaces.parameter import Parameter, Params, Range
from nasproxy.spaces.schema import schema_text
from nasproxy.spaces.yaml_reader import load_space, shipped_spaces

__all__ = [
    "Candidate",
    "Limits",
    "NetSize",
    "Parameter",
    "Params",
    "Range",
    "SearchSpace",
    "SpaceInspection",
    "inspect_space",
    "load_space",
    "num_flops",
    "sample_of_functions",
    "schema_text",
    "shipped_spaces",
    "uniform_sample",
]
