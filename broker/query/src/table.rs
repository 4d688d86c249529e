//! A stream as a table of DataFusion.

use crate::counters::Counters;
use crate::fetching::Part;
use crate::restriction::Restriction;
use crate::scan::Lane;
use crate::source::{self, Source};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use flowstone_sql::Stream;
use flowstone_wire::native::{Partition, Place, Topic};
use flowstone_wire::{Failure, Offset, PartitionId};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A stream with what its topic held when the query was asked.
pub(crate) struct Table {
    stream: Stream,
    topic: Topic,
    /// Rows show the numbers that pipelines show, not those within the topic.
    is_declared: bool,
    source: Arc<dyn Source>,
    counters: Arc<Counters>,
    parts: OnceLock<Vec<Part>>,
}

impl Table {
    pub(crate) fn new(
        (stream, is_declared): (Stream, bool),
        topic: Topic,
        source: Arc<dyn Source>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            stream,
            topic,
            is_declared,
            source,
            counters,
            parts: OnceLock::new(),
        }
    }

    /// Looks where the partitions begin and end. From then on the table is what it is.
    ///
    /// # Errors
    /// What a shard says.
    pub(crate) async fn find_bounds(&self) -> std::result::Result<(), Failure> {
        let partitions = &self.topic.partitions;
        let bounds = source::bounds(&*self.source, partitions).await?;
        let part = |((index, partition), (from, to)): ((u32, &Partition), (Offset, Offset))| Part {
            id: partition.id,
            shown: match self.is_declared {
                true => partition.id,
                false => PartitionId(index),
            },
            from,
            to,
        };
        let parts = (0u32..).zip(partitions).zip(bounds).map(part).collect();
        // Who looked first has looked at the time of the query as well.
        let _ = self.parts.set(parts);
        Ok(())
    }

    /// The parts that may have records which the restriction lets through.
    async fn restricted(&self, to: &Restriction) -> std::result::Result<Vec<Part>, Failure> {
        let mut parts = Vec::new();
        for mut part in self.parts.get().into_iter().flatten().copied() {
            if !to.partition.contains(i64::from(part.shown.0)) {
                continue;
            }
            part.from = part.from.max(offset(to.offset.min));
            part.to = part.to.min(offset(to.offset.max.saturating_add(1)));
            if part.from < part.to && to.timestamp.min > i64::MIN {
                let place = Place::Time(to.timestamp.min);
                part.from = part.from.max(self.source.find(part.id, place).await?);
            }
            if part.from < part.to {
                parts.push(part);
            }
        }
        Ok(parts)
    }
}

fn offset(number: i64) -> Offset {
    Offset(u64::try_from(number).unwrap_or(0))
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.stream.name).finish()
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let each = filters.iter().map(|f| Restriction::of(f, &self.stream));
        Ok(each
            .map(|r| match r == Restriction::NONE {
                true => TableProviderFilterPushDown::Unsupported,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let restriction = Restriction::of_all(filters, &self.stream);
        let parts = self.restricted(&restriction).await;
        let parts = parts.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let all = || (0..self.stream.columns.len()).collect();
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let count = state
            .config()
            .target_partitions()
            .clamp(1, parts.len().max(1));
        let mut shares: Vec<Vec<Part>> = vec![Vec::new(); count];
        for (number, part) in parts.into_iter().enumerate() {
            shares[number % count].push(part);
        }
        let lane = |parts: Vec<Part>| -> Arc<dyn PartitionStream> {
            Arc::new(Lane::new(
                &self.stream,
                &columns,
                restriction.timestamp,
                parts,
                (self.source.clone(), self.counters.clone()),
            ))
        };
        let lanes: Vec<_> = shares.into_iter().map(lane).collect();
        let schema = lanes[0].schema().clone();
        // Filters are looked at once more above, so a limit that came with some is not ours.
        let limit = limit.filter(|_| filters.is_empty());
        let scan = StreamingTableExec::try_new(schema, lanes, None, [], false, limit)?;
        Ok(Arc::new(scan))
    }
}
