import torch

from common.training.log import Log
from common.training.objective import ratio


def test_logged_shares_are_divided_over_the_epoch_not_per_step():
    log = Log()
    log.add({"loss": torch.tensor(1.0), "share": ratio(torch.tensor(1.0), 2)})
    log.add({"loss": torch.tensor(3.0), "share": ratio(torch.tensor(0.0), 6)})
    log.add({"loss": torch.tensor(2.0), "share": ratio(torch.tensor(0.0), 0)})
    assert log.means() == {"loss": 2.0, "share": 0.125}
    empty = Log()
    empty.add({"norm": ratio(torch.tensor(0.0), 0)})
    assert empty.means() == {"norm": None}
