//! The rules of DataFusion that a query goes through.
//!
//! Only those that keep a plan a plan over streams: types, constants, DISTINCT as a grouping, and
//! leaving out columns that nobody reads. None that looks at a clock or moves work between inputs.

use datafusion::common::DataFusionError;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use std::sync::Arc;

pub(super) fn optimize(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let config = Arc::new(ConfigOptions::default());
    let plan = analyzed(plan)?;
    let rules = Optimizer::with_rules(vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    let context =
        OptimizerContext::new_with_config_options(config).without_query_execution_start_time();
    rules.optimize(plan, &context, |_, _| {})
}

/// The plan with the types of all of its expressions.
pub(super) fn analyzed(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    Analyzer::new().execute_and_check(plan, &ConfigOptions::default(), |_, _| {})
}
