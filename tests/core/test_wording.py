import pytest

from nasproxy.core.wording import rough_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h"), (200_000, "2.3 days")]
)
def test_durations_read_well(seconds, text):
    assert rough_duration(seconds) == text
