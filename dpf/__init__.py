"""dpf (DRUGseq-PerturbFormer): from a perturbation screen to ranked compounds."""

__version__ = "0.1.0"
