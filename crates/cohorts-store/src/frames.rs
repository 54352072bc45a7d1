//! Bytes of checkpoints, compressed in frames that several processors pack and unpack at once.
//!
//! Each frame carries its size and a checksum, so damaged bytes are detected. This module does not decode the contents of
//! the frames: that is the caller's task.

use rayon::prelude::*;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::{Result, StoreError};

/// The compression level: fast.
const LEVEL: i32 = 1;
/// Uncompressed bytes of one frame.
const FRAME: usize = 1 << 20;
/// The most uncompressed bytes that one value may have: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// Compresses `bytes`.
///
/// # Errors
///
/// [`StoreError::Other`] if there are [`MAX_BYTES`] or more, which [`unpack`] would refuse.
pub fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    check_size(bytes.len())?;
    let pack_frame = |part: &[u8]| {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(part)
    };
    let frames: std::io::Result<Vec<Vec<u8>>> = bytes.par_chunks(FRAME).map(pack_frame).collect();
    Ok(frames.map_err(anyhow::Error::from)?.concat())
}

fn check_size(size: usize) -> Result<()> {
    if (size as u64) < MAX_BYTES {
        Ok(())
    } else {
        Err(StoreError::Other(anyhow::anyhow!(
            "{size} bytes are too many for a checkpoint"
        )))
    }
}

/// Returns the bytes that [`pack`] compressed, or `None` if a frame is damaged. If whole frames are missing at the end,
/// it returns the bytes before them; the decoder of the contents detects that.
pub fn unpack(data: &[u8]) -> Option<Vec<u8>> {
    let frames = split_frames(data)?;
    let total = frames
        .iter()
        .try_fold(0_u64, |total, (_, size)| total.checked_add(*size))
        .filter(|total| *total < MAX_BYTES)?;
    let mut bytes = vec![0; usize::try_from(total).ok()?];
    let (mut rest, mut parts) = (bytes.as_mut_slice(), Vec::new());
    for (frame, size) in frames {
        let (part, after) = rest.split_at_mut(size as usize);
        parts.push((frame, part));
        rest = after;
    }
    let unpack_frame = |(frame, part): (&[u8], &mut [u8])| {
        let size = Decompressor::new()?.decompress_to_buffer(frame, part)?;
        Ok(size == part.len())
    };
    let complete: std::io::Result<Vec<bool>> = parts.into_par_iter().map(unpack_frame).collect();
    complete
        .ok()?
        .into_iter()
        .all(|is_complete| is_complete)
        .then_some(bytes)
}

/// The frames of `data`, each with its uncompressed size.
fn split_frames(mut data: &[u8]) -> Option<Vec<(&[u8], u64)>> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        let size = zstd_safe::find_frame_compressed_size(data).ok()?;
        let (frame, rest) = data.split_at_checked(size)?;
        frames.push((frame, zstd_safe::get_frame_content_size(frame).ok()??));
        data = rest;
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bytes_come_back_and_any_damage_is_detected() {
        for numbers in [0, 10_000, 600_000_u32] {
            let bytes: Vec<u8> = (0..numbers)
                .flat_map(|number| number.wrapping_mul(number).to_le_bytes())
                .collect();
            let packed = pack(&bytes).unwrap();
            assert_eq!(unpack(&packed).as_ref(), Some(&bytes));
            for position in (0..packed.len()).step_by(packed.len() / 50 + 1) {
                let mut damaged = packed.clone();
                damaged[position] ^= 0x10;
                assert_eq!(unpack(&damaged), None, "byte {position}");
            }
            if numbers > 0 {
                assert_eq!(unpack(&packed[..packed.len() - 1]), None);
                let first = zstd_safe::find_frame_compressed_size(&packed).unwrap();
                let prefix = unpack(&packed[..first]).unwrap();
                assert!(prefix.len() <= FRAME && bytes.starts_with(&prefix));
            }
        }
    }
}
