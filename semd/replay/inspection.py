"""`semd inspect`: everything that semd measures on one frame."""

from __future__ import annotations

from pathlib import Path

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.errors import ConfigError
from semd.inbox.dialects import read_parameters
from semd.inbox.image import decode_image
from semd.model_store import default_directory, load_model
from semd.protocol.pairing import Dialect
from semd.scoring.scorer import Scorer


def inspect_frame(
    image_path: Path, text_path: Path | None, dialect: str, magnification: float | None
) -> dict[str, object]:
    """Decode one frame and measure it.

    Raises:
        ConfigError: a file cannot be read, the dialect is unknown, or the magnification is not known.
        FrameError: the frame cannot be used; says why.
    """
    if dialect not in set(Dialect):
        raise ConfigError(f"dialect {dialect!r} is not known; there are {', '.join(Dialect)}")
    try:
        image_bytes = image_path.read_bytes()
        text_bytes = text_path.read_bytes() if text_path is not None else None
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
    report: dict[str, object] = {}
    in_image = Dialect(dialect).sidecar_suffix is None
    if text_bytes is not None or (in_image and magnification is None):
        parameters = read_parameters(Dialect(dialect), text_bytes or b"", image_bytes)
        magnification = magnification or parameters.magnification
        report |= {name: getattr(parameters, name) for name in parameters.__dataclass_fields__}
    if magnification is None:
        raise ConfigError("the magnification is needed: give the parameter text or --magnification")
    image = decode_image(image_bytes, image_path.suffix.lower())
    histogram = grey_histogram(image)
    features, exposure = measure_features(image, histogram), measure_exposure(histogram)
    judged = Scorer.load(load_model(default_directory(), "scorer").data).judge(image, magnification)
    return report | {
        "width_px": image.shape[1],
        "height_px": image.shape[0],
        "avg": features.avg,
        "grd": features.grd,
        "var": features.var,
        "black": exposure.black,
        "white": exposure.white,
        "level": exposure.level,
        "contrast_range": exposure.contrast,
        "exposure_ok": ExposureRange().accepts(exposure),
        "score": judged.score,
        "sigma": judged.sigma,
        "flags": [str(flag) for flag in judged.flags],
    }
