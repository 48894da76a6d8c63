"""Other people's training loops, as the README has them."""

import os

import pytest

from conftest import seen

if not os.environ.get("PREHEAT_REQUIRE_TORCH"):
    pytest.importorskip("lightning")
    pytest.importorskip("accelerate")

import accelerate  # noqa: E402
import lightning  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Module(lightning.LightningModule):
    """Remembers what it was trained on."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(4, 4, 1)
        self.batches = []

    def training_step(self, batch, number):
        self.batches.append(batch)
        return self.layer(batch.latents).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(loader, folder, resume=None):
    module = Module()
    every = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        use_distributed_sampler=False,
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        callbacks=[every],
        **quiet,
    )
    trainer.fit(module, train_dataloaders=loader, ckpt_path=resume)
    return seen(module.batches)


def test_lightning_resumes_with_the_very_next_batch(load, tmp_path):
    loader = load(as_="torch")
    whole = fit(loader, tmp_path)
    assert len(whole) == 2 * len(loader)
    # In the middle of an epoch, at its end, and in the next one.
    for steps in (2, len(loader), len(loader) + 1):
        rest = fit(load(as_="torch"), tmp_path / "again", tmp_path / f"step={steps}.ckpt")
        assert rest == whole[steps:], steps


def test_accelerate(load):
    accelerator = accelerate.Accelerator(cpu=True)
    loader = load(
        as_="torch",
        device=accelerator.device,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    model = torch.nn.Conv2d(4, 4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 1e-3))
    got = []
    for batch in loader:
        accelerator.backward(model(batch.latents).square().mean())
        optimizer.step()
        optimizer.zero_grad()
        got.append(batch)
    assert seen(got) == seen(load())
