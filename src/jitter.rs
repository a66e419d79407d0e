//! Jitter: randomness, so that pods, sockets and replicas are not all met in one moment.

/// A random number from 0 to 1. If that fails it is 0: all act together, nothing else is lost.
pub fn fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// A random number; 0 if that fails.
pub fn number() -> u128 {
    let mut bytes = [0_u8; 16];
    let _ = getrandom::fill(&mut bytes);
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_within_its_bounds_and_differs() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|one| (0.0..=1.0).contains(one)), "{drawn:?}");
        assert!(drawn.iter().any(|one| *one < 0.5) && drawn.iter().any(|one| *one > 0.5), "{drawn:?}");
    }
}
