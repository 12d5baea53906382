"""What the losses of a training say, as columns."""

import numpy as np

from nasproxy.training.loss_curve import loss_columns
from nasproxy.training.results import FailureKind, Fit, failed_fit


def test_columns_are_higher_where_the_loss_is_lower():
    falling = tuple(np.linspace(2.0, 1.0, 10))
    found = loss_columns([Fit(0.5, 1.5, 1.0, train_losses=falling), Fit(0.4, 2.5, 1.0, train_losses=(2.0,) * 10)])
    assert found["held-out loss"].tolist() == [-1.5, -2.5]
    np.testing.assert_allclose(found["training losses"], [-1.5, -2.0])
    np.testing.assert_allclose(found["late training loss"], [-np.mean(falling[-2:]), -2.0])


def test_one_part_has_no_late_loss():
    assert set(loss_columns([Fit(0.5, 1.5, 1.0, train_losses=(2.0,))])) == {"held-out loss", "training losses"}


def test_what_some_trainings_lack_is_no_column():
    lacking = [Fit(0.5, 1.5, 1.0, train_losses=(2.0, 1.0)), Fit(0.5, 1.5, 1.0)]
    assert set(loss_columns(lacking)) == {"held-out loss"}
    assert loss_columns([failed_fit(FailureKind.DIVERGED, "diverged", 1.0)]) == {}
