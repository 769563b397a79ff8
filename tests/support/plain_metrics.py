"""The metrics of an evaluation by scikit-learn and scipy, one sample at a time: what dpf's are held against."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn import metrics


def calibration_error(label, probability):
    """Ten equal-width bins, the last closed on both sides."""
    bins = np.minimum(np.floor(10 * probability), 9)
    inside = [bins == b for b in range(10)]
    return sum(np.abs((label - probability)[part].sum()) for part in inside) / len(label)


def where_defined(metric, *, classes=False, spread=False):
    """`metric`, and nan where one class or one value is all there is."""

    def value(y, f):
        one_class = classes and np.ptp(y) == 0
        constant = spread and (np.ptp(y) == 0 or np.ptp(f) == 0)
        return np.nan if one_class or constant else metric(y, f)

    return value


PLAIN = {
    "r2": where_defined(metrics.r2_score, classes=True),
    "pearson": where_defined(lambda y, f: stats.pearsonr(y, f).statistic, spread=True),
    "spearman": where_defined(lambda y, f: stats.spearmanr(y, f).statistic, spread=True),
    "rmse": metrics.root_mean_squared_error,
    "auroc": where_defined(metrics.roc_auc_score, classes=True),
    "auprc": where_defined(metrics.average_precision_score, classes=True),
    "brier": metrics.brier_score_loss,
    "ece": calibration_error,
    "log_loss": lambda y, p: metrics.log_loss(y, p, labels=[0, 1]),
}
