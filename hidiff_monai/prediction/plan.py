"""The setting of a run under a time budget: measured once on its first case, and kept for when the run goes on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from monai.data import MetaTensor

from hidiff_monai.io import hash_file, write_atomically
from hidiff_monai.io.errors import find_value_error
from hidiff_monai.prediction.budget import Candidate, Choice, Cost, choose_setting, fit_cost
from hidiff_monai.prediction.case import infer_case, read_case
from hidiff_monai.prediction.dial_file import DIAL_FILE, read_dial
from hidiff_monai.prediction.model import Model
from hidiff_monai.prediction.sampler import SamplerSetting
from hidiff_monai.prediction.timing import WARM_UP
from hidiff_monai.prediction.workload import network_megapixels

PLAN_FILE = "budget.json"
REPEATS = 3  # timed calls, after those for warming up
MOST_STEPS_TIMED = 10  # chain steps of the longer measurement
CHOSEN = ("num_inference_steps", "sampler")  # keys of a configuration
SHORT, FALLBACK = SamplerSetting("hard", 1), SamplerSetting("ddim", 1, 4)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """What a user allows.

    Attributes:
        milliseconds: of inference for each case, an image or a whole volume.
        dial: the file of `hidiff dial`, or its folder; None for the bundle's own.
    """

    milliseconds: float
    dial: str | Path | None = None

    def require_valid(self, steps: int | None, overrides: Mapping[str, Any] | None = None) -> None:
        """It is a time, and nothing else sets what it is to choose.

        Args:
            steps: of the command line.
            overrides: keys of the configuration.

        Raises:
            ValueError: if one of these does not hold.
        """
        number = self.milliseconds
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < math.inf:
            raise ValueError(f"--budget-ms {number!r}; expected milliseconds a case, for example 500")
        given = {key: value for key, value in (overrides or {}).items() if key.split("#")[-1] in CHOSEN}
        given |= {} if steps is None else {"steps": steps}
        if given:
            key, value = next(iter(given.items()))
            mend = "the budget chooses it, leave it out"
            raise ValueError(f"--budget-ms {number:g} with --{key} {value}; expected one of them: {mend}")

    def file(self, bundle: Path) -> Path:
        """The file that tells the Dice of each setting."""
        place = bundle / "docs" if self.dial is None else Path(str(self.dial)).expanduser()
        return place / DIAL_FILE if place.is_dir() or self.dial is None else place


@dataclass(frozen=True)
class Plan:
    """What a run under a budget does.

    Attributes:
        budget: the user's.
        dial_sha256: of the file that the Dice come from.
        dial_section: whose cases were scored there; None where it does not say.
        candidates: the settings to choose from.
        cost: of this machine.
        megapixels: of the case it was measured on, as the network sees it.
        choice: for that case, and for every other that it fits.
    """

    budget: Budget
    dial_sha256: str
    dial_section: str | None
    candidates: list[Candidate]
    cost: Cost
    megapixels: float
    choice: Choice

    def choose(self, megapixels: float) -> Choice:
        """The run's setting, so that cases can be compared; a case too large for it gets the best that fits it."""
        estimate = self.cost.seconds(self.choice.setting, megapixels)
        budget_s = self.budget.milliseconds / 1000
        if estimate <= budget_s:
            return self.choice._replace(seconds=estimate, fits=True)
        return choose_setting(self.candidates, self.cost, megapixels, budget_s)

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "budget_ms": self.budget.milliseconds,
            "setting": self.choice.setting._asdict(),
            "described": self.choice.setting.describe(),
            "dial_dice": None if math.isnan(self.choice.dice) else self.choice.dice,
            "dial_sha256": self.dial_sha256,
            "dial_section": self.dial_section,
            "estimated_ms": round(1000 * self.choice.seconds, 1),
            "fits": self.choice.fits,
            "megapixels": round(self.megapixels, 4),
            "fixed_ms_per_megapixel": round(1000 * self.cost.fixed_s, 2),
            "step_ms_per_megapixel": round(1000 * self.cost.step_s, 2),
        }


def make_plan(
    model: Model,
    budget: Budget,
    output: Path,
    share: Callable[[Callable[[], str]], str] = lambda make: make(),
    shorten: Callable[[str], str] = str,
) -> Plan:
    """Chooses a run's setting, or takes up the choice of an earlier run with the same settings in this folder.

    Args:
        model: as the bundle and the command line have it.
        budget: valid.
        output: the run's folder, where ``budget.json`` keeps what was measured.
        share: gives every process of a run what the function returns in the first.
        shorten: takes folders out of a message.

    Raises:
        ValueError: if there is no dial for these weights, see `read_dial`, or no case can be read to be timed.
    """
    file = budget.file(model.bundle)
    samples = model.sampling.num_samples or model.network.num_samples
    checkpoint = hash_file(model.checkpoint)
    max_steps = model.network.scheduler.num_train_timesteps
    candidates, section = read_dial(file, checkpoint, samples, max_steps, model.sampling.flip_axes)
    dial = hash_file(file)
    key = {
        "settings": model.settings,
        "budget_ms": budget.milliseconds,
        "samples": samples,
        "dial_sha256": dial,
        "checkpoint_sha256": checkpoint,
        "config_sha256": hash_file(model.bundle / "configs" / "inference.json"),
        "refiner": model.refiner,
        "device": model.device.type,
    }

    def measure() -> str:
        kept = _read_kept(output / PLAN_FILE, key)
        return json.dumps(kept or _measure(model, candidates, output / PLAN_FILE, key, shorten))

    kept = json.loads(share(measure))
    cost, megapixels = Cost(*kept["cost"]), float(kept["megapixels"])
    choice = choose_setting(candidates, cost, megapixels, budget.milliseconds / 1000)
    if not choice.fits:
        logger.warning(
            "--budget-ms %g: nothing fits; one hard step is taken (%s), which is estimated to take %.0f ms a case%s",
            budget.milliseconds,
            choice.setting.describe(),
            1000 * choice.seconds,
            "; --samples 1 leaves out the chains for the uncertainty" if samples > 1 else "",
        )
    return Plan(budget, dial, section, candidates, cost, megapixels, choice)


def _measure(
    model: Model, candidates: Sequence[Candidate], file: Path, key: Mapping[str, Any], shorten: Callable[[str], str]
) -> dict[str, Any]:
    """Times the first case that can be read, and writes down what came out."""
    image = _first_readable(model, shorten)
    cost = measure_cost(model, image, [candidate.setting for candidate in candidates])
    megapixels = network_megapixels(model.inferer, image.shape[1:])
    content = {"key": dict(key), "cost": list(cost), "megapixels": megapixels}
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def measure_cost(model: Model, image: MetaTensor, settings: Sequence[SamplerSetting]) -> Cost:
    """Times a short and a longer setting on one case; of a volume, on one batch of slices from its middle.

    Args:
        model: whose sampling is left at the longer setting.
        image: of `read_case`.
        settings: as they would be run; the longer one is the costliest of them of at most `MOST_STEPS_TIMED`.
    """
    if model.is_volumetric:
        number = min(getattr(model.inferer, "batch_size", 1), image.shape[-1])
        start = (image.shape[-1] - number) // 2
        image = MetaTensor(image[..., start : start + number], meta=image.meta)
    medium = [setting for setting in settings if SHORT.chain_steps < setting.chain_steps <= MOST_STEPS_TIMED]
    long = max(medium, key=lambda setting: setting.chain_steps, default=FALLBACK)
    few, many = ((setting.chain_steps, _time(model, image, setting)) for setting in (SHORT, long))
    return fit_cost(few, many, network_megapixels(model.inferer, image.shape[1:]))


def _time(model: Model, image: MetaTensor, setting: SamplerSetting) -> float:
    """Seconds, the median of a few after the network has warmed up."""
    setting.apply(model.sampling)
    return median([infer_case(model, image)[1] for _ in range(WARM_UP + REPEATS)][WARM_UP:])


def _first_readable(model: Model, shorten: Callable[[str], str]) -> MetaTensor:
    """The first case without a fault: the others are told when it is their turn."""
    reason: Exception | None = None
    for item in model.items:
        try:
            return read_case(model, item)
        except Exception as error:
            reason = reason or error
    known = find_value_error(reason)  # the text of any other error may quote a header
    told = type(reason).__name__ if known is None else shorten(str(known))
    raise ValueError(
        f"--budget-ms: none of the {len(model.items)} case(s) can be read ({told}); expected one to time: run without "
        "--budget-ms to have each of them named"
    ) from reason


def _read_kept(file: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier run with the same settings measured."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        is_same = content["key"] == json.loads(json.dumps(key)) and len(content["cost"]) == 2
        return content if is_same and content["megapixels"] > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
