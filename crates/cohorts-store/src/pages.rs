//! Pages of rows that may be large: first the ids of the page, then the sizes and the rows of some ids.
//!
//! A caller reads as many rows at once as its memory has room for, and never a whole page.

use std::collections::HashMap;

use diesel::sql_types::{Nullable, Text};

/// The ids of the rows of a page, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageIds {
    /// The ids.
    pub ids: Vec<i64>,
    /// The number of rows on all pages.
    pub count: i64,
}

/// The size of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSize {
    /// The id of the row; the ordinal of a person.
    pub id: i64,
    /// The bytes of the columns that may be large, as text.
    pub bytes: usize,
}

impl RowSize {
    pub(crate) fn new<const N: usize>(id: i64, columns: [Option<i32>; N]) -> Self {
        let bytes = columns.into_iter().flatten();
        let bytes = bytes.filter_map(|bytes| usize::try_from(bytes).ok()).sum();
        Self { id, bytes }
    }
}

diesel::define_sql_function! {
    /// The bytes of a text.
    fn octet_length(text: Nullable<Text>) -> Nullable<Integer>;
}

/// The rows in the order of `ids`.
pub(crate) fn in_order<R>(ids: &[i64], rows: Vec<R>, id: impl Fn(&R) -> i64) -> Vec<R> {
    let mut by_id: HashMap<i64, R> = rows.into_iter().map(|row| (id(&row), row)).collect();
    ids.iter().filter_map(|id| by_id.remove(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_a_row_is_the_sum_of_its_columns() {
        let size = RowSize::new(7, [Some(3), None, Some(4)]);
        assert_eq!(size, RowSize { id: 7, bytes: 7 });
    }

    #[test]
    fn rows_are_sorted_by_the_list_of_ids() {
        let rows = vec![(1, "a"), (2, "b"), (3, "c")];
        let sorted = in_order(&[3, 9, 1], rows, |row| row.0);
        assert_eq!(sorted, [(3, "c"), (1, "a")]);
    }
}
