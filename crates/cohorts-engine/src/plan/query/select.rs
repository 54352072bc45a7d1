//! SELECT and what joins several: from the syntax tree to whom they choose.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, TableFactor,
};

use super::column::{SqlColumn, SelectScope, Table};
use super::condition::ConditionReader;
use super::operand::Operand;
use super::{PATH, criteria, unsupported};
use crate::FilterError;
use crate::condition::Condition;
use crate::plan::{Criterion, GroupTest, Planner, RowCriterion, Tree};
use crate::window::Moment;

/// Whom a query chooses.
pub(super) fn query(query: &Query, planner: &mut Planner) -> Result<Tree, FilterError> {
    chosen(query, false, planner)
}

/// Whom a subquery of IN chooses, which shows the person and nothing else.
pub(super) fn people(query: &Query, planner: &mut Planner) -> Result<Tree, FilterError> {
    chosen(query, true, planner)
}

fn chosen(query: &Query, alone: bool, planner: &mut Planner) -> Result<Tree, FilterError> {
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
    // An order means nothing to a set.
    set(&query.body, alone, planner)
}

fn set(body: &SetExpr, alone: bool, planner: &mut Planner) -> Result<Tree, FilterError> {
    match body {
        SetExpr::Select(one) => select(one, alone, planner),
        SetExpr::Query(inner) => chosen(inner, alone, planner),
        SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } => {
            let plain = matches!(
                set_quantifier,
                SetQuantifier::None | SetQuantifier::Distinct
            );
            let union_all = *op == SetOperator::Union && *set_quantifier == SetQuantifier::All;
            if !plain && !union_all {
                return Err(unsupported(format!("{op} {set_quantifier}")));
            }
            let (left, right) = (set(left, alone, planner)?, set(right, alone, planner)?);
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

fn select(select: &Select, alone: bool, planner: &mut Planner) -> Result<Tree, FilterError> {
    refuse_clauses(select)?;
    let scope = scope(select)?;
    let grouped = grouped(select, &scope)?;
    check_columns(select, &scope, grouped, planner.moment)?;
    if alone {
        check_alone(select, &scope)?;
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
            let condition = condition.try_map(&mut |test| criteria::people(test, planner))?;
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

/// The one table of a SELECT.
fn scope(select: &Select) -> Result<SelectScope, FilterError> {
    let from = match select.from.as_slice() {
        [one] if one.joins.is_empty() => &one.relation,
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
    let (name, bare) = (name_of(name)?, name);
    let extras = args.is_some()
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
    if extras
        || alias
            .as_ref()
            .is_some_and(|alias| !alias.columns.is_empty())
    {
        return Err(unsupported(format!("what stands beside the table {bare}")));
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
        [one] => match one.as_ident() {
            Some(ident) => Ok(ident.value.clone()),
            None => Err(unsupported("a table function")),
        },
        _ => Err(unsupported(format!("the table {name}"))),
    }
}

/// Whether rows are grouped by person.
fn grouped(select: &Select, scope: &SelectScope) -> Result<bool, FilterError> {
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
    let named = aliases(select);
    for key in keys {
        let key = named.resolve(key);
        if scope.column(key)? != Some(SqlColumn::Person) {
            return Err(unsupported(format!(
                "GROUP BY {key}, which is not the person,"
            )));
        }
    }
    Ok(true)
}

/// The names that a SELECT gives to its columns.
#[derive(Default)]
pub(super) struct Aliases<'a>(Vec<(&'a Ident, &'a Expr)>);

impl<'a> Aliases<'a> {
    /// What an expression stands for.
    pub fn resolve(&self, expr: &'a Expr) -> &'a Expr {
        let Expr::Identifier(name) = expr else {
            return expr;
        };
        let mut named = self.0.iter();
        let found = named.find(|(alias, _)| alias.value == name.value);
        found.map_or(expr, |(_, expr)| expr)
    }
}

fn aliases(select: &Select) -> Aliases<'_> {
    let named = select.projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => Some((alias, expr)),
        _ => None,
    });
    Aliases(named.collect())
}

/// The columns must be known ones, and those named as the person must be the person.
fn check_columns(
    select: &Select,
    scope: &SelectScope,
    grouped: bool,
    at: &Moment,
) -> Result<(), FilterError> {
    let mut names_person = false;
    for item in &select.projection {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.as_str())),
            SelectItem::Wildcard(_) if scope.table != Table::Members && !grouped => continue,
            other => return Err(unsupported(format!("{other} in SELECT"))),
        };
        let column = match Operand::read(expr, scope, at)? {
            Operand::Column(column)
            | Operand::Day(column)
            | Operand::Float(column)
            | Operand::Moment(column) => column,
            _ => return Err(unsupported(format!("{expr} in SELECT"))),
        };
        if matches!(column, SqlColumn::Aggregate(_)) && !grouped {
            return Err(unsupported(format!("{expr} without GROUP BY the person")));
        }
        let is_person = column == SqlColumn::Person;
        if matches!(alias, Some("person_id" | "actor_id" | "id")) && !is_person {
            return Err(unsupported(format!("{expr} in place of a person")));
        }
        names_person |= is_person;
    }
    match names_person || scope.table != Table::Members {
        true => Ok(()),
        false => {
            let sentence = format!("SELECT over {} must name person_id", scope.name);
            Err(FilterError::input(PATH, sentence))
        }
    }
}

/// IN compares with one column, which must be the person.
fn check_alone(select: &Select, scope: &SelectScope) -> Result<(), FilterError> {
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

/// What must hold for all the events of a person together.
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
