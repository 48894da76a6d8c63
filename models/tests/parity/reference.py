"""What goldens and sweeps are made of: random weights, pictures, clips, and what diffusers makes of them."""

import torch
from diffusers import AutoencoderKLTemporalDecoder


def randomise(model, seed, flat=False):
    """Draws everything: scales 1 +- 0.2, shifts +- 0.2, weights at twice the fan-in's scale."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.ndim >= 2 and "norm" not in name and "gamma" not in name:
                fan = p[0].numel()
                p.copy_(torch.randn(p.shape, generator=g) * fan**-0.5)
                if flat:
                    p.mul_(0.05)
            elif name.endswith("bias"):
                p.copy_(torch.rand(p.shape, generator=g) * 0.4 - 0.2)
                if flat:
                    p.mul_(0.01)
            else:
                p.copy_(1 + torch.rand(p.shape, generator=g) * 0.4 - 0.2)
        for name, b in sorted(model.named_buffers()):
            if name.endswith("running_mean"):
                b.copy_(torch.rand(b.shape, generator=g) - 0.5)
            elif name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) * 1.5 + 0.5)
            elif name == "latents_mean":
                b.copy_(torch.rand(b.shape, generator=g) - 0.5)
            elif name == "latents_std":
                b.copy_(torch.rand(b.shape, generator=g) * 1.5 + 0.5)
    return model.half().float().eval()


def picture(shape, seed, flat=False):
    """Smooth shapes with some noise, in [-1, 1]."""
    g = torch.Generator().manual_seed(seed)
    *lead, h, w = shape
    coarse = torch.rand([*lead, 4, 4], generator=g).flatten(0, -3)[None] * 2 - 1
    x = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic")
    x = x.reshape(shape) + torch.randn(shape, generator=g) * 0.1
    return x.clamp(-1, 1) * (0.02 if flat else 1.0)


def clip(shape, seed, flat=False):
    """A picture that drifts and changes; no two frames are alike."""
    n, c, t, h, w = shape
    start, end = (picture([n, c, h, w], seed + i) for i in (0, 1))
    weight = torch.linspace(0, 1, t).sqrt().reshape(1, 1, t, 1, 1)
    x = start[:, :, None] * (1 - weight) + end[:, :, None] * weight
    x = torch.stack([x[:, :, i].roll(i, dims=-1) for i in range(t)], dim=2)
    x = x + picture(shape, seed + 2) * 0.2
    return x.clamp(-1, 1) * (0.02 if flat else 1.0)


def normalise(model, z):
    """As diffusers' pipelines do."""
    c = model.config
    if hasattr(model, "bn"):
        n, channels, h, w = z.shape
        p, q = c.patch_size
        z = z.reshape(n, channels, h // p, p, w // q, q).permute(0, 1, 3, 5, 2, 4)
        z = z.reshape(n, channels * p * q, h // p, w // q)
        mean, var = (b.reshape(1, -1, 1, 1) for b in (model.bn.running_mean, model.bn.running_var))
        return (z - mean) / torch.sqrt(var + c.batch_norm_eps)
    channel = lambda v: torch.as_tensor(v).reshape(1, -1, *[1] * (z.ndim - 2))
    buffers = dict(model.named_buffers())
    if "latents_mean" in buffers:
        mean, std = (channel(buffers[name]) for name in ("latents_mean", "latents_std"))
        return (z - mean) * c.scaling_factor / std
    if c.get("latents_mean") is not None and c.get("latents_std") is not None:
        scale = c.get("scaling_factor", 1.0) or 1.0
        return (z - channel(c["latents_mean"])) * scale / channel(c["latents_std"])
    return (z - (c.get("shift_factor") or 0.0)) * (c.get("scaling_factor") or 1.0)


@torch.no_grad()
def outputs(model, pixels):
    if isinstance(model, AutoencoderKLTemporalDecoder) and pixels.ndim == 5:
        # It takes the frames of a clip as so many pictures.
        frames = pixels.transpose(1, 2).flatten(0, 1)
        out = outputs(model, frames)
        clips = lambda v: v.unflatten(0, (len(pixels), -1)).transpose(1, 2).contiguous()
        return {k: clips(v) for k, v in out.items()}
    encoded = model.encode(pixels)
    if hasattr(encoded, "latent_dist"):
        d = encoded.latent_dist
        out = {"mean": d.mean, "logvar": d.logvar, "latents": normalise(model, d.mode())}
    else:
        z = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        out = {"mean": z, "latents": normalise(model, z)}
    return {k: v.contiguous().clone() for k, v in out.items()}
