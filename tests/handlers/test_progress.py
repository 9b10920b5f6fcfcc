"""The bar shows the losses of the networks that were trained, and no others."""

from collections.abc import Callable

import pytest

from hidiff_monai.handlers import AlternateCollaborativeHandler, LossProgressBar


def test_only_trained_losses_are_shown(
    make_network: Callable, make_trainer: Callable, make_batches: Callable, capfd: pytest.CaptureFixture
) -> None:
    for pretrain_epochs, shown, hidden in ((1, ["loss_segmentor="], ["loss_refiner="]), (0, ["loss_refiner="], [])):
        handlers = [AlternateCollaborativeHandler(pretrain_epochs), LossProgressBar()]
        trainer = make_trainer(make_network(), make_batches(2, size=8), train_handlers=handlers)
        trainer.run()
        text = capfd.readouterr().err
        assert all(word in text for word in shown)
        assert not any(word in text for word in [*hidden, "pred=", "image="])
        assert f"loss_segmentor={trainer.state.output['loss_segmentor'].item():.3g}" in text
        assert "it/s" in text or "s/it" in text
