"""Electron optics: probe size at the sample, and the blur it causes.

The defocused probe is an image of the aperture: a disc of diameter `2 * alpha * |WD - WD_focus|`. Astigmatism
makes it an ellipse. Aberrations make its rim brighter on one side of focus and dimmer on the other, which is why
defocused tin balls show rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.domain.expert_scale import lenient_blur_px

FRAME_HEIGHT_PX = 480
FRAME_WIDTH_PX = 640
REFERENCE_WIDTH_MM = 127.0
"""Field width times magnification in mm: 127 mm by photographic convention; the manufacturer's value is unknown."""
ALPHA_NOMINAL_MRAD = 3.0

# A disc of diameter D has the variance D**2 / 16 along each axis: D = sqrt(8 * (Mxx + Myy)).
_DISC_MOMENT = 8.0
_GAUSS_TO_DISC = 4.0
_FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def pixel_nm(magnification: float, reference_width_mm: float = REFERENCE_WIDTH_MM) -> float:
    """Size in nm of a pixel of a 640-pixel-wide frame: 19.8 nm at x10000 with the default reference width."""
    return reference_width_mm * 1e6 / (FRAME_WIDTH_PX * magnification)


def wd_unit_mm(magnification: float, alpha_mrad: float = ALPHA_NOMINAL_MRAD) -> float:
    """Defocus in mm whose disc has the diameter `lenient_blur_px`: 0.132 mm at x500, 0.030 mm at x10000."""
    return lenient_blur_px(magnification) * pixel_nm(magnification) * 1e-6 / (2.0 * alpha_mrad * 1e-3)


@dataclass(frozen=True, slots=True)
class ElectronOptics:
    """Electron optics of the column that determine the blur.

    Attributes:
        aperture_radius_um: final aperture's radius; the half angle is `aperture_radius_um / wd_mm` mrad.
        source_nm: full width at half maximum of the demagnified source at the sample.
        cs_mm: spherical aberration coefficient.
        cc_mm: chromatic aberration coefficient.
        energy_spread_ev: width of the beam's energy distribution (tungsten: about 2 eV).
        hv_kv: accelerating voltage.
        astigmatism_mm: half the distance between the foci of the two axes.
        astigmatism_rad: direction of the first axis.
        rim: excess (overfocus) or deficit (underfocus) of the rim intensity of the disc against its centre, -1..1.
    """

    aperture_radius_um: float = 30.0
    source_nm: float = 35.0
    cs_mm: float = 25.0
    cc_mm: float = 18.0
    energy_spread_ev: float = 2.0
    hv_kv: float = 15.0
    astigmatism_mm: float = 0.0
    astigmatism_rad: float = 0.0
    rim: float = 0.35

    def alpha_mrad(self, wd_mm: float) -> float:
        """Half angle of the beam in mrad at a working distance in mm."""
        return self.aperture_radius_um / wd_mm

    def spot_nm(self, wd_mm: float) -> float:
        """Width (FWHM) in nm of the focused spot: source, spherical, chromatic, diffraction in quadrature."""
        alpha = self.alpha_mrad(wd_mm) * 1e-3
        volt = self.hv_kv * 1e3
        wavelength_nm = 1.226 / math.sqrt(volt * (1.0 + 0.978e-6 * volt))
        spherical_nm = 0.5 * self.cs_mm * 1e6 * alpha**3
        chromatic_nm = self.cc_mm * 1e6 * alpha * self.energy_spread_ev / volt
        diffraction_nm = 0.61 * wavelength_nm / alpha
        return math.sqrt(self.source_nm**2 + spherical_nm**2 + chromatic_nm**2 + diffraction_nm**2)

    def blur(self, wd_mm: float, focus_wd_mm: float, pixel_size_nm: float) -> Blur:
        """Blur in pixels of a frame taken at `wd_mm` of a surface in focus at `focus_wd_mm`."""
        full_angle = 2.0 * self.alpha_mrad(wd_mm) * 1e-3
        to_px = 1e6 / pixel_size_nm
        defocus_mm = wd_mm - focus_wd_mm
        return Blur(
            major_px=full_angle * abs(defocus_mm + self.astigmatism_mm) * to_px,
            minor_px=full_angle * abs(defocus_mm - self.astigmatism_mm) * to_px,
            angle_rad=self.astigmatism_rad,
            spot_sigma_px=self.spot_nm(wd_mm) * _FWHM_TO_SIGMA / pixel_size_nm,
            rim=math.copysign(self.rim, defocus_mm * self.rim) if self.rim else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Blur:
    """Blur kernel in pixels: an elliptic disc with a weighted rim, convolved with a Gaussian spot.

    Attributes:
        major_px: disc diameter along the first axis.
        minor_px: disc diameter along the second axis.
        angle_rad: direction of the first axis.
        spot_sigma_px: standard deviation of the Gaussian spot.
        rim: weight of the rim against the centre, -1..1; 0 is a uniform disc.
    """

    major_px: float
    minor_px: float
    angle_rad: float = 0.0
    spot_sigma_px: float = 0.0
    rim: float = 0.0

    @property
    def effective_px(self) -> float:
        """Diameter in pixels of the uniform disc with the same second moment (squares of the parts add)."""
        # Second moment of the weight 1 + rim * (2 rho**2 - 1) over the unit disc, relative to a uniform one:
        # int rho**3 (1 - rim + 2 rim rho**2) / int rho (1 - rim + 2 rim rho**2), times 2.
        weighted = 1.0 + self.rim / 3.0
        disc = 0.5 * (self.major_px**2 + self.minor_px**2) * weighted
        return math.sqrt(disc + (_GAUSS_TO_DISC * self.spot_sigma_px) ** 2)

    def kernel(self, scale: int = 1) -> NDArray[np.float32]:
        """Kernel for a picture reduced by `scale`, float32, square with an odd side, sum 1."""
        major, minor, sigma = self.major_px / scale, self.minor_px / scale, self.spot_sigma_px / scale
        fine = 5 if max(major, minor) < 10.0 else 1
        half = math.ceil(max(major, minor) / 2.0 + 3.0 * sigma + 0.5)
        size = 2 * half + 1
        axis = (np.arange(size * fine, dtype=np.float32) + 0.5) / fine - 0.5 - half
        x, y = axis[None, :], axis[:, None]
        cosine, sine = math.cos(self.angle_rad), math.sin(self.angle_rad)
        # Half axes below the sampling step would fall between the samples.
        a, b = max(major / 2.0, 0.4 / fine), max(minor / 2.0, 0.4 / fine)
        rho = np.sqrt(((x * cosine + y * sine) / a) ** 2 + ((y * cosine - x * sine) / b) ** 2)
        edge_px = math.sqrt(a * b) * fine
        disc = np.clip((1.0 - rho) * edge_px + 0.5, 0.0, 1.0) * (
            1.0 + self.rim * (2.0 * np.minimum(rho, 1.0) ** 2 - 1.0)
        )
        kernel = np.asarray(disc, dtype=np.float32)
        if sigma * fine > 0.15:
            softened = cv2.GaussianBlur(kernel, (0, 0), sigma * fine, borderType=cv2.BORDER_CONSTANT)
            kernel = np.asarray(softened, dtype=np.float32)
        if fine > 1:
            kernel = np.asarray(cv2.resize(kernel, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)
        return np.asarray(kernel / kernel.sum(), dtype=np.float32)

    def apply(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blur a float32 picture whose sides are multiples of 8, mirrored beyond its border.

        Wide kernels remove all fine detail, so they are applied to a reduced picture: a frame takes a few milliseconds
        at any defocus.
        """
        widest = max(self.major_px, self.minor_px)
        narrowest = min(self.major_px, self.minor_px)
        if self.effective_px < 0.2:
            return picture
        scale = next((s for s in (8, 4, 2) if narrowest >= 12.0 * s), 1)
        if widest > 400.0:
            scale = 8
        small = picture
        height, width = picture.shape
        if scale > 1:
            reduced = cv2.resize(picture, (width // scale, height // scale), interpolation=cv2.INTER_AREA)
            small = np.asarray(reduced, dtype=np.float32)
        blurred = cv2.filter2D(small, cv2.CV_32F, self.kernel(scale), borderType=cv2.BORDER_REFLECT_101)
        if scale > 1:
            blurred = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(blurred, dtype=np.float32)
