//! How much a query is once the queries of its `WITH` stand where they are named.
//!
//! One that is named twice is there twice: forty that name the one before them twice are a thousand billion.

use super::{place_of, visit_queries};
use crate::error::{Error, Result};
use crate::statement::name_of;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, visit_relations};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Most relations that a query may read.
const WEIGHT_MAX: usize = 1_000;
/// Queries nest no deeper than the parser goes.
const DEPTH_MAX: usize = 64;

/// Refuses a query that is too much.
pub(super) fn check(outer: &Query, place: Location) -> Result<()> {
    let mut weights = BTreeMap::new();
    for _ in 0..DEPTH_MAX {
        let before = weights.clone();
        let _: ControlFlow<()> = visit_queries(outer, |query| {
            for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
                let name = name_of(&cte.alias.name);
                let weight = weight(&cte.query, &weights, Some(&name));
                weights.insert(name, weight);
            }
            ControlFlow::Continue(())
        });
        if weight(outer, &weights, None) > WEIGHT_MAX {
            let text = format!(
                "the queries of WITH are named so often that more than {WEIGHT_MAX} relations would be read"
            );
            return Err(Error::at(place_of(outer, place), text));
        }
        // What is inside of others is known after another round.
        if weights == before {
            break;
        }
    }
    Ok(())
}

/// The relations that a query reads, at least one; by its own name it names something else.
fn weight(query: &Query, weights: &BTreeMap<String, usize>, own: Option<&str>) -> usize {
    let mut sum: usize = 0;
    let _: ControlFlow<()> = visit_relations(query, |relation: &ObjectName| {
        let name = match &relation.0[..] {
            [part] => part.as_ident().map(name_of),
            _ => None,
        };
        let known = name.filter(|n| Some(&n[..]) != own);
        let weight = known.and_then(|n| weights.get(&n)).copied();
        sum = sum.saturating_add(weight.unwrap_or(1));
        ControlFlow::Continue(())
    });
    sum.max(1)
}
