//! Bitmaps from sorted ordinals.

use roaring::RoaringBitmap;

/// A bitmap of sorted ordinals, which may contain duplicates.
pub(crate) fn from_sorted_iter(ordinals: impl Iterator<Item = u32>) -> RoaringBitmap {
    let mut bitmap = RoaringBitmap::new();
    for ordinal in ordinals {
        // A duplicate is not above the maximum, so the bitmap refuses it.
        bitmap.try_push(ordinal).ok();
    }
    bitmap
}

/// From this number of ordinals on, with at most this average distance, setting bits is faster
/// than pushing ordinals.
const DENSE_LENGTH: usize = 1_024;
const DENSE_DISTANCE: usize = 64;

/// A bitmap of sorted ordinals, which may contain duplicates.
pub(crate) fn from_sorted(ordinals: &[u32]) -> RoaringBitmap {
    let (Some(first), Some(last)) = (ordinals.first(), ordinals.last()) else {
        return RoaringBitmap::new();
    };
    let first = first & !7;
    let width = (last - first) as usize;
    if ordinals.len() < DENSE_LENGTH || width / ordinals.len() > DENSE_DISTANCE {
        return from_sorted_iter(ordinals.iter().copied());
    }
    let mut bits = vec![0_u8; width / 8 + 1];
    for ordinal in ordinals {
        bits[(ordinal - first) as usize / 8] |= 1 << (ordinal % 8);
    }
    RoaringBitmap::from_lsb0_bytes(first, &bits)
}

/// Two bitmaps are merged if the larger one has at most this number of times the ordinals.
const MERGED_RATIO: u64 = 64;

/// The ordinals of both bitmaps. If one is small, the cost depends on that one.
pub(crate) fn intersection(a: &RoaringBitmap, b: &RoaringBitmap) -> RoaringBitmap {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    if few.len() * MERGED_RATIO >= many.len() {
        return few & many;
    }
    from_sorted_iter(few.iter().filter(|ordinal| many.contains(*ordinal)))
}

/// The ordinals with a set flag. The loop has no branch, because the flags are unpredictable.
#[inline]
pub(crate) fn select(ordinals: impl ExactSizeIterator<Item = (u32, bool)>) -> Vec<u32> {
    let (mut selected, mut count) = (vec![0; ordinals.len()], 0);
    for (ordinal, is_selected) in ordinals {
        selected[count] = ordinal;
        count += usize::from(is_selected);
    }
    selected.truncate(count);
    selected
}
