//! What the parser knows and we do not: refused, because DataFusion leaves some of it out silently.
//!
//! Every part of the syntax tree of a query is named here, so that a part that a later version of
//! sqlparser adds does not compile before somebody has decided about it.

mod weight;

use crate::error::{Error, Result};
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, GroupByExpr, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select,
    SelectFlavor, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias,
    TableFactor, TableWithJoins, Visit, Visitor, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::ops::ControlFlow;

/// Most tables of a list in FROM.
const TABLES_MAX: usize = 64;

fn no(present: bool, place: Location, what: &str) -> Result<()> {
    if present {
        return Err(Error::at(
            place,
            format!("{what} is not supported here: leave it out"),
        ));
    }
    Ok(())
}

fn place_of(item: &impl Spanned, fallback: Location) -> Location {
    let start = item.span().start;
    if start.line > 0 { start } else { fallback }
}

/// What a query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// What comes, for ever.
    Streams,
    /// What is there, with an end.
    History,
}

impl Over {
    /// What makes sense only where there is an end.
    fn no(self, present: bool, place: Location, what: &str) -> Result<()> {
        no(present && self == Self::Streams, place, what)
    }
}

/// Refuses what is not supported in a query that begins at `place`, the queries inside of its
/// expressions included.
pub(super) fn all_queries(outer: &Query, over: Over, place: Location) -> Result<()> {
    query(outer, over, place)?;
    weight::check(outer, place)?;
    let inner = visit_queries(outer, |q| match query(q, over, place_of(q, place)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match inner {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Shows every query in a query.
fn visit_queries<E>(outer: &Query, show: impl FnMut(&Query) -> ControlFlow<E>) -> ControlFlow<E> {
    struct Each<F>(F);
    impl<E, F: FnMut(&Query) -> ControlFlow<E>> Visitor for Each<F> {
        type Break = E;
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<E> {
            (self.0)(query)
        }
    }
    outer.visit(&mut Each(show))
}

/// Refuses what is not supported in a query that begins at `place`.
fn query(query: &Query, over: Over, place: Location) -> Result<()> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if let Some(order_by) = order_by.as_ref().filter(|_| over == Over::Streams) {
        let text = "ORDER BY over a stream never ends: leave it out, or rank rows within windows";
        return Err(Error::at(place_of(order_by, place), text));
    }
    if let Some(limit) = limit_clause.as_ref().filter(|_| over == Over::Streams) {
        let text = "LIMIT over a stream is not supported: leave it out";
        return Err(Error::at(place_of(limit, place), text));
    }
    no(
        order_by.as_ref().is_some_and(|o| o.interpolate.is_some()),
        place,
        "INTERPOLATE",
    )?;
    no(fetch.is_some(), place, "FETCH (there is LIMIT)")?;
    no(!locks.is_empty() || for_clause.is_some(), place, "FOR")?;
    no(settings.is_some(), place, "SETTINGS")?;
    no(format_clause.is_some(), place, "FORMAT")?;
    no(!pipe_operators.is_empty(), place, "|>")?;
    if let Some(with) = with {
        let With {
            with_token: _,
            recursive,
            cte_tables,
        } = with;
        no(*recursive, place, "WITH RECURSIVE")?;
        for cte in cte_tables {
            self::cte(cte, over, place)?;
        }
    }
    set_expr(body, over, place)
}

fn cte(cte: &Cte, over: Over, place: Location) -> Result<()> {
    let Cte {
        alias,
        query,
        from,
        materialized,
        closing_paren_token: _,
    } = cte;
    table_alias(Some(alias), place)?;
    no(from.is_some(), place, "FROM of a WITH query")?;
    no(materialized.is_some(), place, "MATERIALIZED")?;
    self::query(query, over, place_of(&**query, place))
}

fn set_expr(expr: &SetExpr, over: Over, place: Location) -> Result<()> {
    match expr {
        SetExpr::Select(select) => self::select(select, over, place_of(&**select, place)),
        SetExpr::Query(query) => self::query(query, over, place_of(&**query, place)),
        SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } => {
            let all = *set_quantifier == SetQuantifier::All;
            if over == Over::Streams && (*op != SetOperator::Union || !all) {
                let at = place_of(&**right, place);
                let text = format!("{op} {set_quantifier} is not supported: there is UNION ALL");
                return Err(Error::at(at, text.replace("  ", " ")));
            }
            set_expr(left, over, place)?;
            set_expr(right, over, place)
        }
        SetExpr::Values(_) => over.no(true, place, "VALUES"),
        SetExpr::Table(_) => no(true, place, "TABLE"),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            no(true, place, "a statement that changes a table")
        }
    }
}

fn select(select: &Select, over: Over, place: Location) -> Result<()> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    no(!optimizer_hints.is_empty(), place, "a hint")?;
    over.no(
        matches!(distinct, Some(Distinct::On(_))),
        place,
        "DISTINCT ON",
    )?;
    no(select_modifiers.is_some(), place, "a modifier of SELECT")?;
    no(top.is_some(), place, "TOP")?;
    no(exclude.is_some(), place, "EXCLUDE")?;
    no(into.is_some(), place, "INTO")?;
    no(!lateral_views.is_empty(), place, "LATERAL VIEW")?;
    no(prewhere.is_some(), place, "PREWHERE")?;
    no(!connect_by.is_empty(), place, "CONNECT BY")?;
    no(!cluster_by.is_empty(), place, "CLUSTER BY")?;
    no(!distribute_by.is_empty(), place, "DISTRIBUTE BY")?;
    no(!sort_by.is_empty(), place, "SORT BY")?;
    over.no(!named_window.is_empty(), place, "WINDOW")?;
    over.no(qualify.is_some(), place, "QUALIFY")?;
    no(value_table_mode.is_some(), place, "AS VALUE or AS STRUCT")?;
    no(
        *flavor != SelectFlavor::Standard,
        place,
        "FROM before SELECT",
    )?;
    match group_by {
        GroupByExpr::All(_) => over.no(true, place, "GROUP BY ALL")?,
        GroupByExpr::Expressions(_, modifiers) => {
            over.no(!modifiers.is_empty(), place, "a modifier of GROUP BY")?;
        }
    }
    projection
        .iter()
        .try_for_each(|item| select_item(item, place))?;
    over.no(from.is_empty(), place, "a query without FROM")?;
    over.no(
        from.len() > 1,
        place,
        "a list of tables in FROM (write JOIN ... ON)",
    )?;
    no(from.len() > TABLES_MAX, place, "so long a list in FROM")?;
    from.iter()
        .try_for_each(|t| table_with_joins(t, over, place))
}

fn select_item(item: &SelectItem, place: Location) -> Result<()> {
    let options = match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => return Ok(()),
        SelectItem::ExprWithAliases { .. } => {
            return no(true, place_of(item, place), "a list of names");
        }
        SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => options,
    };
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let any = opt_ilike.is_some()
        || opt_exclude.is_some()
        || opt_except.is_some()
        || opt_replace.is_some()
        || opt_rename.is_some()
        || opt_alias.is_some();
    no(any, place_of(item, place), "an option of *")
}

fn table_with_joins(table: &TableWithJoins, over: Over, place: Location) -> Result<()> {
    let TableWithJoins { relation, joins } = table;
    table_factor(relation, over, place)?;
    for Join {
        relation,
        global,
        join_operator,
    } in joins
    {
        let place = place_of(relation, place);
        no(*global, place, "GLOBAL")?;
        table_factor(relation, over, place)?;
        match relation {
            TableFactor::Table { name, .. } if is_unnest(name) => unnest(join_operator, place)?,
            _ => join(join_operator, over, place)?,
        }
    }
    Ok(())
}

fn join(operator: &JoinOperator, over: Over, place: Location) -> Result<()> {
    let constraint = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => c,
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => c,
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => c,
        JoinOperator::FullOuter(c) => c,
        JoinOperator::AsOf { .. } if over == Over::History => {
            return no(true, place, "ASOF JOIN without EMIT");
        }
        JoinOperator::AsOf {
            match_condition: _,
            constraint,
        } => constraint,
        _ => return over.no(true, place, "this kind of join"),
    };
    match constraint {
        JoinConstraint::On(_) => Ok(()),
        _ => over.no(true, place, "a join without ON"),
    }
}

/// Whether this is the name of the function that unfolds lists.
pub(crate) fn is_unnest(name: &ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case("unnest")
}

/// A join with `UNNEST` has no condition of its own.
fn unnest(operator: &JoinOperator, place: Location) -> Result<()> {
    let constraint = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => c,
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => c,
        _ => return no(true, place, "this kind of join with UNNEST"),
    };
    let is_cross = matches!(operator, JoinOperator::CrossJoin(_));
    match constraint {
        JoinConstraint::None if is_cross => Ok(()),
        JoinConstraint::On(on) if on.to_string().eq_ignore_ascii_case("true") => Ok(()),
        _ => {
            let text = "write CROSS JOIN UNNEST(...), or LEFT JOIN UNNEST(...) ON TRUE, and WHERE for the rest";
            Err(Error::at(place, text))
        }
    }
}

fn table_factor(table: &TableFactor, over: Over, place: Location) -> Result<()> {
    let place = place_of(table, place);
    match table {
        TableFactor::Table {
            name: _,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            table_alias(alias.as_ref(), place)?;
            no(
                args.as_ref().is_some_and(|a| a.settings.is_some()),
                place,
                "SETTINGS",
            )?;
            no(
                !with_hints.is_empty() || !index_hints.is_empty(),
                place,
                "a hint",
            )?;
            no(version.is_some(), place, "FOR SYSTEM_TIME")?;
            no(*with_ordinality, place, "WITH ORDINALITY")?;
            no(!partitions.is_empty(), place, "PARTITION")?;
            no(json_path.is_some(), place, "a path behind a table")?;
            no(sample.is_some(), place, "TABLESAMPLE")
        }
        TableFactor::Derived {
            lateral,
            subquery,
            alias,
            sample,
        } => {
            no(*lateral, place, "LATERAL")?;
            no(sample.is_some(), place, "TABLESAMPLE")?;
            table_alias(alias.as_ref(), place)?;
            query(subquery, over, place)
        }
        TableFactor::NestedJoin {
            table_with_joins: nested,
            alias,
        } => {
            table_alias(alias.as_ref(), place)?;
            table_with_joins(nested, over, place)
        }
        _ => no(true, place, "this form of FROM"),
    }
}

fn table_alias(alias: Option<&TableAlias>, place: Location) -> Result<()> {
    let Some(alias) = alias else { return Ok(()) };
    let TableAlias {
        explicit: _,
        name: _,
        columns,
        at,
    } = alias;
    no(
        columns.iter().any(|c| c.data_type.is_some()),
        place,
        "a type in an alias",
    )?;
    no(at.is_some(), place, "AT")
}
