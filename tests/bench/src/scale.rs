//! stub
use crate::{Run, row::Table};
pub(crate) fn run(_run: &Run, _table: &mut Table) -> anyhow::Result<()> {
    Ok(())
}
