//! What a verification holds is bounded by what is looked at, not by what there is: counted by the allocator.
use std::sync::Mutex;

use event_seal_core::block::Container;
use event_seal_core::suite::Suite;
use event_seal_core::verify::{Expect, ReadFault, Run, Source, Unwatched, Verdict, verify};
use event_seal_load::Flow;
use peak_alloc::PeakAlloc;
use rayon::ThreadPoolBuilder;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// All tests share the allocator's counts.
static ALONE: Mutex<()> = Mutex::new(());

const MEBIBYTE: usize = 1 << 20;

/// One block, read as often as there are flows.
struct Copies {
    block: Vec<u8>,
    count: usize,
}

impl Source for Copies {
    fn len(&self) -> usize {
        self.count
    }

    fn size(&self, _: usize) -> usize {
        self.block.len()
    }

    fn read<'a>(&'a self, _: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        buffer.clear();
        buffer.extend_from_slice(&self.block);
        Ok(buffer)
    }
}

/// The verdict on so many copies of a block by two threads, and the most bytes that it took at a time.
fn verified(block: Vec<u8>, count: usize) -> (Verdict, usize) {
    let source = Copies { block, count };
    let expect = Expect {
        bodies: true,
        ..Expect::default()
    };
    let runs: Vec<Run> = (0..count)
        .map(|i| Run {
            expect,
            ..Run::whole("patient/1", i..i + 1)
        })
        .collect();
    let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let verdict = pool.install(|| verify(&source, &runs, &Unwatched, 1_000));
    (verdict, MEMORY.peak_usage() - before)
}

fn block(events: usize, body: usize) -> Vec<u8> {
    Flow::new(Suite::Sha256, "patient/1", events, body)
        .blocks()
        .remove(0)
}

#[test]
fn what_is_read_is_not_held() {
    let _alone = ALONE.lock().unwrap();
    let block = block(500, 1_000);
    let read = block.len() * 40;
    let (verdict, held) = verified(block, 40);
    assert_eq!((verdict.events, verdict.fault_count), (20_000, 0));
    assert_eq!(verdict.bytes as usize, read);
    assert!(read > 23 * MEBIBYTE && held < 6 * MEBIBYTE, "{held} of {read}");
}

#[test]
fn faults_without_number_are_not_held() {
    let _alone = ALONE.lock().unwrap();
    let mut block = block(300, 0);
    let verification = Container::decode(&block).unwrap().verification_length();
    block.truncate(verification);
    block[16..24].copy_from_slice(&(verification as u64).to_be_bytes());
    let (verdict, held) = verified(block, 400);
    assert_eq!((verdict.faults.len(), verdict.fault_count), (1_000, 120_000));
    assert!(held < 14 * MEBIBYTE, "{held}");
}
