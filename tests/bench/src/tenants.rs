//! stub
use crate::{Run, row::Table};
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {}
pub(crate) fn load(_a: &LoadArgs) -> anyhow::Result<()> {
    Ok(())
}
pub(crate) fn run(_run: &Run, _table: &mut Table) -> anyhow::Result<()> {
    Ok(())
}
