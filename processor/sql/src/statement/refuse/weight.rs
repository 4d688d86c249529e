//! How much a query is once the queries of its `WITH` stand where they are named.
//!
//! One that is named twice is there twice: forty that name the one before them twice are a thousand billion.

use super::place_of;
use crate::error::{Error, Result};
use crate::statement::name_of;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// Most relations that a query may read.
const WEIGHT_MAX: usize = 1_000;

/// Refuses a query that is too much.
pub(super) fn check(outer: &Query, place: Location) -> Result<()> {
    match outer.visit(&mut Scopes::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            let text = format!(
                "the queries of WITH are named so often that more than {WEIGHT_MAX} relations would be read"
            );
            Err(Error::at(place_of(outer, place), text))
        }
    }
}

/// A query that is being visited.
struct Scope {
    /// Its own queries of `WITH`, by where they lie in memory, with their names.
    own: Vec<(*const Query, String)>,
    /// Those that were visited, with what they are; each is known to those behind it and to the body.
    known: Vec<(String, usize)>,
    /// The relations that it reads.
    sum: usize,
}

/// The queries around the one that is being visited, the outermost first.
#[derive(Default)]
struct Scopes(Vec<Scope>);

impl Scopes {
    fn add(&mut self, weight: usize) -> ControlFlow<()> {
        let Some(scope) = self.0.last_mut() else {
            return ControlFlow::Continue(());
        };
        scope.sum = scope.sum.saturating_add(weight);
        match scope.sum > WEIGHT_MAX {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Scopes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let own = query.with.iter().flat_map(|with| &with.cte_tables);
        let own = own.map(|cte| (&raw const *cte.query, name_of(&cte.alias.name)));
        self.0.push(Scope {
            own: own.collect(),
            known: Vec::new(),
            sum: 0,
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match &relation.0[..] {
            [part] => part.as_ident().map(name_of),
            _ => None,
        };
        let known = self.0.iter().rev().flat_map(|s| s.known.iter().rev());
        let weight = name.and_then(|name| known.into_iter().find(|(n, _)| *n == name));
        let weight = weight.map_or(1, |(_, weight)| *weight);
        self.add(weight)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let weight = self.0.pop().map_or(1, |scope| scope.sum.max(1));
        let Some(outer) = self.0.last_mut() else {
            return ControlFlow::Continue(());
        };
        match outer.own.iter().find(|(own, _)| std::ptr::eq(*own, query)) {
            Some((_, name)) => {
                outer.known.push((name.clone(), weight));
                ControlFlow::Continue(())
            }
            None => self.add(weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::{Statement, parse};

    fn is_refused(text: &str) -> bool {
        match parse(text) {
            Ok(parsed) => {
                assert!(matches!(parsed[0].statement, Statement::Query(_)));
                false
            }
            Err(error) => {
                assert!(error.message.contains("WITH"), "{error}");
                true
            }
        }
    }

    #[test]
    fn what_doubles_is_refused_wherever_it_stands_and_names_count_in_their_scope() {
        let doubled = |times: usize| -> String {
            let step = |n: usize| format!(", c{n} AS (SELECT 1 FROM c{0}, c{0} AS d)", n - 1);
            let steps: String = (1..=times).map(step).collect();
            format!("c0 AS (SELECT 1){steps}")
        };
        assert!(!is_refused(&format!(
            "WITH {} SELECT * FROM c5",
            doubled(5)
        )));
        assert!(is_refused(&format!(
            "WITH {} SELECT * FROM c40",
            doubled(40)
        )));
        assert!(is_refused(&format!(
            "SELECT 1 FROM (WITH {} SELECT 1 FROM c40) AS z",
            doubled(40)
        )));
        // The inner queries of the same names are others.
        let inner: Vec<String> = (0..=40).map(|n| format!("c{n} AS (SELECT 1)")).collect();
        assert!(is_refused(&format!(
            "WITH {} SELECT 1 FROM (WITH {} SELECT 1 AS y) AS z WHERE EXISTS (SELECT 1 FROM c40)",
            doubled(40),
            inner.join(", ")
        )));
        assert!(!is_refused(
            "WITH recent AS (SELECT * FROM orders), orders AS (SELECT * FROM recent UNION ALL SELECT * FROM recent) \
             SELECT * FROM orders"
        ));
    }
}
