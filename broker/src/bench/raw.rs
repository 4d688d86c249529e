//! What the machine does by itself.

use super::{Times, note, times};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_BYTES: u64 = 128 << 20;

/// Copying memory, in bytes per second.
pub fn memcpy_bytes_per_s() -> f64 {
    let from = vec![7u8; 64 << 20];
    let mut to = vec![0u8; 64 << 20];
    to.copy_from_slice(&from);
    best_of(5, || {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to).len()
    })
}

/// Memory that the process never had, in bytes per second. Where a hypervisor takes back what its
/// guest does not use, this is slow, and so is everything that fills the page cache; for a while
/// afterwards the memory is the guest's.
pub fn touch_bytes_per_s(bytes: usize) -> f64 {
    const PAGE_BYTES: usize = 4096;
    let start = Instant::now();
    let mut memory: Vec<u8> = Vec::with_capacity(bytes);
    // Zeros that were asked for as such would be promised only.
    for _ in 0..bytes / PAGE_BYTES {
        memory.extend_from_slice(&[7; PAGE_BYTES]);
    }
    std::hint::black_box(&memory);
    bytes as f64 / start.elapsed().as_secs_f64()
}

/// Bytes that were written to the device of a directory since the machine started, by everybody, as
/// /sys/dev/block has it; `None` where that is not known.
pub fn device_written_bytes(dir: &Path) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(dir).ok()?);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // Reads have four columns; then writes: how many, merged, sectors.
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

/// The checksum of batches, in bytes per second.
pub fn crc_bytes_per_s() -> f64 {
    let bytes = vec![7u8; 16 << 20];
    best_of(5, || {
        std::hint::black_box(crc32(std::hint::black_box(&bytes)));
        bytes.len()
    })
}

/// The checksum of batches.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn best_of(rounds: u32, mut round: impl FnMut() -> usize) -> f64 {
    let one = |_| {
        let start = Instant::now();
        let bytes = round();
        bytes as f64 / start.elapsed().as_secs_f64()
    };
    (0..rounds).map(one).fold(0.0, f64::max)
}

fn allocated(dir: &Path) -> io::Result<File> {
    let path = dir.join("raw");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// A positioned write of `bytes` into an allocated file.
///
/// # Errors
/// What the disk says.
pub fn write(dir: &Path, bytes: usize, count: u64) -> io::Result<Times> {
    let (file, data, mut taken) = (allocated(dir)?, vec![7u8; bytes], times());
    for n in 0..count {
        let at = n * bytes as u64 % (FILE_BYTES - bytes as u64);
        let start = Instant::now();
        file.write_all_at(&data, at)?;
        note(&mut taken, start.elapsed());
    }
    Ok(taken)
}

/// A write of `bytes` behind the last one, and `fdatasync`.
///
/// # Errors
/// What the disk says.
pub fn fdatasync(dir: &Path, bytes: usize, count: u64) -> io::Result<Times> {
    let (file, data, mut taken) = (allocated(dir)?, vec![7u8; bytes], times());
    for n in 0..count {
        let at = n * bytes as u64 % (FILE_BYTES - bytes as u64);
        let start = Instant::now();
        file.write_all_at(&data, at)?;
        file.sync_data()?;
        note(&mut taken, start.elapsed());
    }
    Ok(taken)
}

/// Writing with `fdatasync` after every `group_bytes`, in bytes per second.
///
/// # Errors
/// What the disk says.
pub fn synced_bytes_per_s(dir: &Path, group_bytes: usize, total_bytes: u64) -> io::Result<f64> {
    let data = vec![7u8; group_bytes];
    let (mut file, mut at) = (allocated(dir)?, 0);
    let mut spent = Duration::ZERO;
    let mut done = 0;
    while done < total_bytes {
        if at + group_bytes as u64 > FILE_BYTES {
            // As in the log, the next file is allocated beforehand.
            (file, at) = (allocated(dir)?, 0);
        }
        let start = Instant::now();
        file.write_all_at(&data, at)?;
        file.sync_data()?;
        spent += start.elapsed();
        at += group_bytes as u64;
        done += group_bytes as u64;
    }
    Ok(done as f64 / spent.as_secs_f64())
}

/// A round trip of `bytes` over loopback TCP, one thread on each side.
///
/// # Errors
/// What the operating system says.
pub fn tcp_echo(bytes: usize, count: u64) -> io::Result<Times> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; bytes];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut taken) = (vec![7; bytes], times());
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        note(&mut taken, start.elapsed());
    }
    drop(stream);
    // It ends with the connection.
    let _ = echo.join();
    Ok(taken)
}
