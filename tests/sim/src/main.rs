//! `jellyfin-sim`: simulated pods as a process of their own.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    jellyfin_sim::run_program(std::env::args_os())
}
