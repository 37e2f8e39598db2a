"""Detector: shot noise, gain (contrast), offset (brightness), clipping, rounding and scan distortions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.simulator.texture import Picture

Frame = NDArray[np.uint8]
FULL_SCALE = 255.0


@dataclass(frozen=True, slots=True)
class Detector:
    """Detector tuned to one field.

    Grey level `v = gain(contrast) * (signal - mid) + offset(brightness)`, clipped to 0..255. Gain is exponential in the
    contrast setting, as in the voltage of a photomultiplier; offset is linear in the brightness setting.

    Attributes:
        brightness_optimum: setting at which `mid` becomes middle grey.
        contrast_optimum: setting at which the gain is `gain_grey`.
        mid: emission whose grey level is independent of the gain.
        gain_grey: grey levels per unit of emission at `contrast_optimum`.
        grey_per_brightness: grey levels per unit of brightness.
        contrast_per_octave: units of contrast that double the gain.
        electrons: detected electrons per pixel at emission 1 (dwell time times current): shot noise.
        readout_grey: standard deviation in grey levels of the noise added after the gain.
        smear: share of a pixel's noise that leaks into the next along the line (amplifier bandwidth), 0..0.8.
        jitter_px: standard deviation of the horizontal shift of a line in pixels.
        drift_px: horizontal shift from the first line to the last in pixels.
        charging_grey: amplitude in grey levels of slow horizontal stripes.
    """

    brightness_optimum: float = 50.0
    contrast_optimum: float = 50.0
    mid: float = 0.4
    gain_grey: float = 250.0
    grey_per_brightness: float = 4.0
    contrast_per_octave: float = 16.0
    electrons: float = 250.0
    readout_grey: float = 1.5
    smear: float = 0.2
    jitter_px: float = 0.0
    drift_px: float = 0.0
    charging_grey: float = 0.0

    def tuned_to(self, signal: Picture) -> Detector:
        """Return a detector tuned so that 160 grey levels span the 2nd to 98th percentile of this in-focus signal.

        The gain is limited to 1600 grey levels per unit of emission, for fields with little contrast.
        """
        low, high = np.percentile(signal, (2.0, 98.0))
        spread = max(float(high - low), 0.1)
        # Skewed fields: a point between the middle of the percentiles and the mean keeps both within the range.
        mid = 0.5 * (0.5 * float(low + high)) + 0.5 * float(signal.mean())
        return replace(self, mid=mid, gain_grey=160.0 / spread)

    def gain(self, contrast: float) -> float:
        """Grey levels per unit of emission at a contrast setting."""
        return float(self.gain_grey * 2.0 ** ((contrast - self.contrast_optimum) / self.contrast_per_octave))

    def offset(self, brightness: float) -> float:
        """Grey level of `mid` at a brightness setting."""
        return 0.5 * FULL_SCALE + self.grey_per_brightness * (brightness - self.brightness_optimum)

    def ideal(self, signal: Picture, brightness: float, contrast: float) -> Picture:
        """Grey levels without noise, clipping or rounding, float32 of the signal's shape."""
        gain = np.float32(self.gain(contrast))
        return np.asarray(gain * (signal - np.float32(self.mid)) + np.float32(self.offset(brightness)), np.float32)

    def noise_sigma(self, signal: Picture, contrast: float) -> Picture:
        """Standard deviation of the noise in grey levels, float32 of the signal's shape, before clipping."""
        shot = self.gain(contrast) ** 2 * np.maximum(signal, 0.005) / self.electrons
        return np.asarray(np.sqrt(shot + self.readout_grey**2), dtype=np.float32)

    def digitise(self, signal: Picture, brightness: float, contrast: float, rng: np.random.Generator) -> Frame:
        """Scan a blurred signal, float32, into a frame of grey levels, uint8 of the same shape."""
        signal = self._distort(signal, rng)
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        if self.smear > 0.0:
            noise = _correlate_along_lines(noise, self.smear)
        grey = self.ideal(signal, brightness, contrast) + noise * self.noise_sigma(signal, contrast)
        if self.charging_grey > 0.0:
            rows = signal.shape[0]
            slow = cv2.resize(rng.standard_normal((rows // 12 + 2, 1), dtype=np.float32), (1, rows))
            grey += np.float32(self.charging_grey) * slow.reshape(rows, 1)
        return np.asarray(np.clip(np.rint(grey), 0.0, FULL_SCALE), dtype=np.uint8)

    def _distort(self, signal: Picture, rng: np.random.Generator) -> Picture:
        if self.jitter_px <= 0.0 and self.drift_px == 0.0:
            return signal
        rows, cols = signal.shape
        shift = self.jitter_px * rng.standard_normal(rows) + self.drift_px * (np.arange(rows) / rows - 0.5)
        x = np.arange(cols, dtype=np.float32)[None, :] + shift.astype(np.float32)[:, None]
        y = np.repeat(np.arange(rows, dtype=np.float32)[:, None], cols, axis=1)
        moved = cv2.remap(signal, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, dtype=np.float32)


def _correlate_along_lines(noise: Picture, smear: float) -> Picture:
    """Correlate white noise along the lines, keeping its standard deviation."""
    taps = np.array([[smear * smear, smear, 1.0]], np.float32)
    taps /= np.sqrt((taps**2).sum())
    return np.asarray(cv2.filter2D(noise, cv2.CV_32F, taps), dtype=np.float32)
