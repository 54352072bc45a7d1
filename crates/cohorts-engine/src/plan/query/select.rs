//! Converts SELECT and set operations to the tree of a plan.
//!
//! Every clause is either converted or refused by name.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, TableAlias, TableFactor,
};

use super::column::{SelectScope, SqlColumn, Table};
use super::condition::ConditionReader;
use super::operand::Operand;
use super::{PATH, criteria, unsupported};
use crate::FilterError;
use crate::condition::Condition;
use crate::plan::{Criterion, GroupTest, Planner, RowCriterion, Tree};
use crate::window::Moment;

/// Which columns a SELECT may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Projection {
    /// Any known columns and constants.
    Any,
    /// The person only, as in a subquery of IN.
    Person,
}

/// The persons of a query.
pub(super) fn query(query: &Query, planner: &mut Planner) -> Result<Tree, FilterError> {
    query_tree(query, Projection::Any, planner)
}

/// The persons of a subquery of IN, which must return the person only.
pub(super) fn subquery(query: &Query, planner: &mut Planner) -> Result<Tree, FilterError> {
    query_tree(query, Projection::Person, planner)
}

fn query_tree(
    query: &Query,
    projection: Projection,
    planner: &mut Planner,
) -> Result<Tree, FilterError> {
    for (present, what) in [
        (query.with.is_some(), "WITH"),
        (
            query.limit_clause.is_some() || query.fetch.is_some(),
            "LIMIT",
        ),
        (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        (query.settings.is_some(), "SETTINGS"),
        (query.format_clause.is_some(), "FORMAT"),
        (!query.pipe_operators.is_empty(), "the pipe operator"),
    ] {
        if present {
            return Err(unsupported(what));
        }
    }
    // ORDER BY is ignored: the result is a set.
    set_tree(&query.body, projection, planner)
}

fn set_tree(
    body: &SetExpr,
    projection: Projection,
    planner: &mut Planner,
) -> Result<Tree, FilterError> {
    match body {
        SetExpr::Select(select) => select_tree(select, projection, planner),
        SetExpr::Query(inner) => query_tree(inner, projection, planner),
        SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } => {
            let is_distinct = matches!(
                set_quantifier,
                SetQuantifier::None | SetQuantifier::Distinct
            );
            let is_union_all = *op == SetOperator::Union && *set_quantifier == SetQuantifier::All;
            if !is_distinct && !is_union_all {
                return Err(unsupported(format!("{op} {set_quantifier}")));
            }
            let left = set_tree(left, projection, planner)?;
            let right = set_tree(right, projection, planner)?;
            Ok(match op {
                SetOperator::Union => Tree::Or(vec![left, right]),
                SetOperator::Intersect => Tree::And(vec![left, right]),
                SetOperator::Except | SetOperator::Minus => Tree::And(vec![left, right.negated()]),
            })
        }
        SetExpr::Values(_) => Err(unsupported("VALUES")),
        SetExpr::Table(_) => Err(unsupported("TABLE")),
        _ => Err(unsupported("a statement that is no SELECT")),
    }
}

fn select_tree(
    select: &Select,
    projection: Projection,
    planner: &mut Planner,
) -> Result<Tree, FilterError> {
    refuse_clauses(select)?;
    let scope = scope(select)?;
    let is_grouped = is_grouped(select, &scope)?;
    check_columns(select, &scope, is_grouped, planner.moment)?;
    if projection == Projection::Person {
        check_person_only(select, &scope)?;
    }
    let reader = ConditionReader {
        scope: &scope,
        aliases: &Aliases::default(),
    };
    let condition = match &select.selection {
        Some(condition) => reader.condition(condition, planner)?,
        None => Condition::All(Vec::new()),
    };
    match scope.table {
        Table::Persons => {
            let condition = condition.try_map(&mut |test| criteria::persons(test, planner))?;
            Ok(condition.into_tree(false))
        }
        Table::Events => {
            let rows = condition.try_map(&mut |test| criteria::rows(test, planner))?;
            let having = having(select, &scope, planner)?;
            let rows = RowCriterion {
                condition: rows,
                having,
            };
            Ok(planner.add(Criterion::Rows(Box::new(rows))))
        }
        Table::Members => criteria::members(condition, planner),
    }
}

fn refuse_clauses(select: &Select) -> Result<(), FilterError> {
    let distinct_on = !matches!(
        select.distinct,
        None | Some(Distinct::Distinct) | Some(Distinct::All)
    );
    for (present, what) in [
        (distinct_on, "DISTINCT ON"),
        (select.top.is_some(), "TOP"),
        (select.select_modifiers.is_some(), "a modifier of SELECT"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.into.is_some(), "INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS"),
    ] {
        if present {
            return Err(unsupported(what));
        }
    }
    Ok(())
}

/// The single table of a SELECT.
fn scope(select: &Select) -> Result<SelectScope, FilterError> {
    let from = match select.from.as_slice() {
        [table] if table.joins.is_empty() => &table.relation,
        [] => return Err(unsupported("SELECT without FROM")),
        _ => return Err(unsupported("JOIN")),
    };
    let TableFactor::Table {
        name,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_directives,
        inheritance,
    } = from
    else {
        return Err(match from {
            TableFactor::Derived { .. } => unsupported("a subquery in FROM"),
            TableFactor::NestedJoin { .. } => unsupported("JOIN"),
            _ => unsupported("a table function"),
        });
    };
    let (name, full_name) = (name_of(name)?, name);
    let has_extras = args.is_some()
        || !with_hints.is_empty()
        || version.is_some()
        || *with_ordinality
        || !partitions.is_empty()
        || json_path.is_some()
        || !index_directives.is_empty()
        || inheritance.is_some();
    if sample.is_some() {
        return Err(unsupported("SAMPLE"));
    }
    let names_columns = |alias: &TableAlias| !alias.columns.is_empty();
    if has_extras || alias.as_ref().is_some_and(names_columns) {
        let construct = format!("an argument or modifier of the table {full_name}");
        return Err(unsupported(construct));
    }
    let alias = alias.as_ref().map(|alias| alias.name.value.clone());
    let table = match name.as_str() {
        "persons" => Table::Persons,
        "events" => Table::Events,
        "cohort_people" | "static_cohort_people" => Table::Members,
        other => {
            let sentence = format!(
                "there is no table '{other}'; expected one of persons, events, cohort_people, static_cohort_people"
            );
            return Err(FilterError::input(PATH, sentence));
        }
    };
    Ok(SelectScope { table, name, alias })
}

fn name_of(name: &ObjectName) -> Result<String, FilterError> {
    match name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) => Ok(ident.value.clone()),
            None => Err(unsupported("a table function")),
        },
        _ => Err(unsupported(format!("the table {name}"))),
    }
}

/// Whether the events are grouped by person. Other groups are refused.
fn is_grouped(select: &Select, scope: &SelectScope) -> Result<bool, FilterError> {
    let GroupByExpr::Expressions(keys, modifiers) = &select.group_by else {
        return Err(unsupported("GROUP BY ALL"));
    };
    if !modifiers.is_empty() {
        return Err(unsupported("a modifier of GROUP BY"));
    }
    if keys.is_empty() {
        return match &select.having {
            Some(_) => Err(unsupported("HAVING without GROUP BY")),
            None => Ok(false),
        };
    }
    if scope.table != Table::Events {
        return Err(unsupported(format!("GROUP BY over {}", scope.name)));
    }
    let aliases = aliases(select);
    for key in keys {
        let key = aliases.resolve(key);
        if scope.column(key)? != Some(SqlColumn::Person) {
            return Err(unsupported(format!(
                "GROUP BY {key}, which is not the person,"
            )));
        }
    }
    Ok(true)
}

/// The aliases in the projection of a SELECT, with their expressions.
#[derive(Default)]
pub(super) struct Aliases<'a>(Vec<(&'a Ident, &'a Expr)>);

impl<'a> Aliases<'a> {
    /// The expression of an alias; any other expression unchanged.
    pub fn resolve(&self, expr: &'a Expr) -> &'a Expr {
        let Expr::Identifier(name) = expr else {
            return expr;
        };
        let mut aliases = self.0.iter();
        let definition = aliases.find(|(alias, _)| alias.value == name.value);
        definition.map_or(expr, |(_, expr)| expr)
    }
}

fn aliases(select: &Select) -> Aliases<'_> {
    let aliases = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => Some((alias, expr)),
        _ => None,
    });
    Aliases(aliases.collect())
}

/// Every column must be known or a constant, and a column with a person's alias must be the person.
fn check_columns(
    select: &Select,
    scope: &SelectScope,
    is_grouped: bool,
    at: &Moment,
) -> Result<(), FilterError> {
    let mut names_person = false;
    for item in &select.projection {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.as_str())),
            SelectItem::Wildcard(_) if scope.table != Table::Members && !is_grouped => continue,
            other => return Err(unsupported(format!("{other} in SELECT"))),
        };
        let is_person = match Operand::read(expr, scope, at)? {
            Operand::Column(SqlColumn::Aggregate(_)) if !is_grouped => {
                return Err(unsupported(format!("{expr} without GROUP BY the person")));
            }
            Operand::Column(column)
            | Operand::Day(column)
            | Operand::Float(column)
            | Operand::DateTime(column) => column == SqlColumn::Person,
            // As in `select 1 from events`: the table alone decides which persons these are.
            Operand::Text(_)
            | Operand::Number(_)
            | Operand::Bool(_)
            | Operand::Null
            | Operand::Instant(_) => false,
        };
        if matches!(alias, Some("person_id" | "actor_id" | "id")) && !is_person {
            return Err(unsupported(format!("{expr} in place of a person")));
        }
        names_person |= is_person;
    }
    if !names_person && scope.table == Table::Members {
        let sentence = format!("SELECT over {} must name person_id", scope.name);
        return Err(FilterError::input(PATH, sentence));
    }
    Ok(())
}

/// The projection must be one column, the person.
fn check_person_only(select: &Select, scope: &SelectScope) -> Result<(), FilterError> {
    let expr = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => expr,
        _ => return Err(unsupported("a subquery that shows more than the person")),
    };
    match scope.column(expr)? {
        Some(SqlColumn::Person) => Ok(()),
        _ => Err(unsupported(format!(
            "a subquery that shows {expr}, which is not the person,"
        ))),
    }
}

/// The condition of HAVING; without HAVING, a condition that is always true.
fn having(
    select: &Select,
    scope: &SelectScope,
    planner: &mut Planner,
) -> Result<Condition<GroupTest>, FilterError> {
    let Some(having) = &select.having else {
        return Ok(Condition::All(Vec::new()));
    };
    let reader = ConditionReader {
        scope,
        aliases: &aliases(select),
    };
    reader
        .condition(having, planner)?
        .try_map(&mut criteria::group)
}
