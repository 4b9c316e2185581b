//! Random names that nobody else has.

/// 32 hex digits (128 bits): the name of a holder of a lease.
pub fn hex_128() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// 16 hex digits (64 bits): a part of a longer name.
pub fn hex_64() -> String {
    format!("{:016x}", rand::random::<u64>())
}
