"""Records in, comparisons and one self-contained HTML file out."""

from limbeck.report.comparison import (
    Comparison as Comparison,
    Difference as Difference,
    compare as compare,
    mean_estimate as mean_estimate,
    paired_difference as paired_difference,
)
from limbeck.report.html import (
    render as render,
    write_report as write_report,
    write_study as write_study,
)
from limbeck.report.reading import Study as Study, read_study as read_study
