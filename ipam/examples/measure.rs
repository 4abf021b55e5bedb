//! Measures what a lease costs, on the file system of the directory that is given (default: the temporary one).
//!
//! `cargo run --release -p cnikit-ipam --example measure [DIRECTORY]`

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipam::{BootId, DirStore, Owner, Pool, Range, RangeSet, acquire, release};

const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let data_dir = parent.join(format!("cnikit-ipam-measure-{}", std::process::id()));
    let outcome = measure(&data_dir);
    std::fs::remove_dir_all(&data_dir)?;
    outcome
}

fn measure(data_dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let boot = BootId::current()?;
    let pool = Pool::new(vec![RangeSet::new(vec![Range::new("10.9.0.0/20".parse()?, None, None, None)?])?])?;
    let open = || DirStore::create(data_dir, "network", &boot);
    let pod = Owner::new("measured", "eth0")?;

    println!(
        "microseconds, median of {ROUNDS} (fastest)              leases:       0     1000     4092 (one free)"
    );
    let mut rows: Vec<(&str, Vec<String>)> =
        ["acquire", "release with a hint", "release without"].map(|name| (name, Vec::new())).into();
    let mut leased = 0;
    for leases in [0, 1000, 4092] {
        for number in leased..leases {
            drop(acquire(&open()?, &pool, &Owner::new(&format!("pod{number}"), "eth0")?, &[])?.commit());
        }
        leased = leases;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for hinted in [true, false] {
                let start = Instant::now();
                let store = open()?;
                let assigned = acquire(&store, &pool, &pod, &[])?.commit();
                times[0].push(start.elapsed());
                let start = Instant::now();
                let hint: Vec<_> = assigned.iter().map(|assigned| assigned.address.addr()).collect();
                release(&open()?, &pod, if hinted { &hint } else { &[] })?;
                times[if hinted { 1 } else { 2 }].push(start.elapsed());
            }
        }
        for (row, times) in rows.iter_mut().zip(times) {
            row.1.push(summary(times));
        }
    }
    for (name, cells) in rows {
        println!("{name:<55}{}", cells.concat());
    }

    drop(acquire(&open()?, &pool, &pod, &[])?.commit());
    for (name, pause) in [("just now", 0), ("for 4 s", 4)] {
        std::thread::sleep(Duration::from_secs(pause));
        let late = Owner::new("late", "eth0")?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            if acquire(&open()?, &pool, &late, &[]).is_ok() {
                return Err("the range should be full".into());
            }
            times.push(start.elapsed());
        }
        let slowest = times.iter().max().copied().unwrap_or_default();
        let name = format!("acquire that fails, all 4093 taken {name}");
        println!("{name:<55}{:>32}, slowest {:.0}", summary(times), slowest.as_secs_f64() * 1e6);
    }
    Ok(())
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    format!("{:>8.0} ({:.0})", micros(times[times.len() / 2]), micros(times[0]))
}
