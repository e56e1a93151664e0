//! `metrics.csv`: one row per epoch.

use indexmap::{IndexMap, IndexSet};

use super::EpochRecord;
use super::scalars::scalars;

/// Why the table cannot be written, which should not happen.
#[derive(Debug, thiserror::Error)]
#[error("the table of metrics cannot be written: {0}")]
pub struct CsvError(String);

/// Returns the history as a table. Columns: epoch and phase (from 1), the stages that were trained (input
/// side first, joined by `+`), whether the epoch was the best so far (0 or 1), then the names of
/// [`scalars`]. A scalar that an epoch lacks, such as the rate of a frozen group, is an empty field, as
/// are those of a task without labels; values that are not finite are `NaN`, `inf` or `-inf`.
///
/// # Errors
/// [`CsvError`].
pub fn metrics_csv(history: &[EpochRecord]) -> Result<String, CsvError> {
    let rows: Vec<IndexMap<String, Option<f64>>> =
        history.iter().map(|record| scalars(record).into_iter().collect()).collect();
    let names: IndexSet<&String> = rows.iter().flat_map(IndexMap::keys).collect();

    let failed = |e: csv::Error| CsvError(e.to_string());
    let mut table = csv::Writer::from_writer(Vec::new());
    let columns = ["epoch", "phase", "trainable", "best"];
    let header = columns.into_iter().chain(names.iter().map(|name| name.as_str()));
    table.write_record(header).map_err(failed)?;
    for (record, row) in history.iter().zip(&rows) {
        let start = [
            record.epoch.to_string(),
            record.phase.to_string(),
            record.trainable.join("+"),
            u8::from(record.best).to_string(),
        ];
        let value = |name: &&String| {
            let value = row.get(*name).copied().flatten();
            value.map_or_else(String::new, |value| value.to_string())
        };
        table.write_record(start.into_iter().chain(names.iter().map(value))).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|e| CsvError(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| CsvError(e.to_string()))
}
