"""What training needs of Lightning and torch although they do not document it."""

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint


class _Module(L.LightningModule):
    def __init__(self, calls):
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(1, 1), calls

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(1, 1))

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_epoch_end(self):
        self.calls.append("module")


def test_a_checkpoint_callback_is_called_after_the_module(tmp_path):
    """So that Checkpoints and TrainingProgress see what ImageClassifier logs."""
    calls = []

    class Own(Checkpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            calls.append("checkpoint")

    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[Own()],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(_Module(calls))
    assert calls == ["module", "checkpoint"]


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a torch built with CUDA")
def test_torch_can_end_the_allocation_from_a_pool():
    """A Recorder calls it after a recording has failed."""
    assert callable(torch._C._cuda_endAllocateToPool)
