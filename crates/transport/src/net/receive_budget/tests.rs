use std::future::poll_fn;

use super::*;

const MIB: usize = 1 << 20;

async fn reserve(share: &mut ReceiveShare, bytes: usize) -> Result<(), Displaced> {
    poll_fn(|cx| share.poll_reserve(bytes, cx)).await
}

fn is_ready(share: &mut ReceiveShare, bytes: usize) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    share.poll_reserve(bytes, &mut cx) == Poll::Ready(Ok(()))
}

fn shares<const N: usize>(budget: &Arc<ReceiveBudget>) -> [ReceiveShare; N] {
    std::array::from_fn(|_| ReceiveShare::new(Arc::clone(budget)))
}

#[tokio::test(start_paused = true)]
async fn short_messages_need_no_budget() {
    let budget = Arc::new(ReceiveBudget::new(0));
    let [mut first, mut second] = shares(&budget);
    assert!(is_ready(&mut first, 10 * MIB), "alone");
    assert!(is_ready(&mut second, FREE_BYTES));
    assert!(!is_ready(&mut second, FREE_BYTES + 1));
}

#[tokio::test(start_paused = true)]
async fn a_share_grows_in_steps_and_is_returned() {
    let budget = Arc::new(ReceiveBudget::new(MIB));
    let [mut share] = shares(&budget);
    assert!(is_ready(&mut share, FREE_BYTES + 1));
    assert_eq!(budget.used(), STEP_BYTES);
    assert!(is_ready(&mut share, FREE_BYTES + STEP_BYTES + 1));
    assert_eq!(budget.used(), 2 * STEP_BYTES);
    share.complete();
    assert_eq!(budget.used(), 2 * STEP_BYTES, "the message is not handed over yet");
    share.release();
    assert_eq!(budget.used(), 0);
    assert!(is_ready(&mut share, FREE_BYTES + 1));
    drop(share);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_in_order() {
    let budget = Arc::new(ReceiveBudget::new(MIB));
    let [mut first, mut second, mut third] = shares(&budget);
    assert!(is_ready(&mut first, MIB));
    assert!(!is_ready(&mut second, FREE_BYTES + 2 * STEP_BYTES));
    // Less would fit, but the second came before.
    assert!(!is_ready(&mut third, FREE_BYTES + 1));
    first.release();
    assert_eq!(budget.used(), 3 * STEP_BYTES, "given before they ask again");
    assert!(is_ready(&mut second, FREE_BYTES + 2 * STEP_BYTES));
    assert!(is_ready(&mut third, FREE_BYTES + 1));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_connection_that_ends_does_not_block_others() {
    let budget = Arc::new(ReceiveBudget::new(MIB));
    let [mut first, mut second, mut third] = shares(&budget);
    assert!(is_ready(&mut first, MIB));
    assert!(!is_ready(&mut second, MIB));
    assert!(!is_ready(&mut third, FREE_BYTES + 1));
    drop(second);
    first.release();
    assert!(is_ready(&mut third, FREE_BYTES + 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_progress_gives_way() {
    let budget = Arc::new(ReceiveBudget::new(2 * MIB));
    let [mut large, mut small, mut young, mut honest] = shares(&budget);
    assert!(is_ready(&mut large, MIB));
    assert!(is_ready(&mut small, MIB / 2));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(is_ready(&mut young, MIB / 2));
    let started = Instant::now();
    let waiting = tokio::spawn(async move {
        let result = reserve(&mut honest, MIB / 2).await;
        (result, honest)
    });
    while !large.is_displaced() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() >= PATIENCE && started.elapsed() < 2 * PATIENCE);
    assert!(!small.is_displaced() && !young.is_displaced(), "one was enough");
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(large.poll_reserve(1, &mut cx), Poll::Ready(Err(Displaced)));
    assert_eq!(large.wait_for_sender(&cx), Err(Displaced));
    large.release();
    let (result, _honest) = waiting.await.unwrap();
    assert_eq!(result, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn as_many_give_way_as_are_needed() {
    let budget = Arc::new(ReceiveBudget::new(8 * MIB));
    let mut silent: [_; 8] = shares(&budget);
    assert!(silent.iter_mut().all(|share| is_ready(share, MIB)));
    let [mut honest] = shares(&budget);
    assert!(!is_ready(&mut honest, 3 * MIB));
    tokio::time::advance(PATIENCE).await;
    assert!(!is_ready(&mut honest, 3 * MIB));
    assert_eq!(silent.iter().filter(|share| share.is_displaced()).count(), 3);
    // Asking again takes no more of them.
    tokio::time::advance(RETRY).await;
    assert!(!is_ready(&mut honest, 3 * MIB));
    assert_eq!(silent.iter().filter(|share| share.is_displaced()).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_each_other_give_way_one_at_a_time() {
    let budget = Arc::new(ReceiveBudget::new(2 * MIB));
    let [mut first, mut second] = shares(&budget);
    assert!(is_ready(&mut first, MIB) && is_ready(&mut second, MIB));
    assert!(!is_ready(&mut first, 2 * MIB) && !is_ready(&mut second, 2 * MIB));
    tokio::time::advance(PATIENCE).await;
    assert!(!is_ready(&mut first, 2 * MIB) || !is_ready(&mut second, 2 * MIB));
    assert_ne!(first.is_displaced(), second.is_displaced());
}

#[tokio::test(start_paused = true)]
async fn a_complete_message_keeps_its_share() {
    let budget = Arc::new(ReceiveBudget::new(MIB));
    let [mut complete, mut honest] = shares(&budget);
    assert!(is_ready(&mut complete, MIB));
    complete.complete();
    assert!(!is_ready(&mut honest, MIB));
    tokio::time::advance(2 * PATIENCE).await;
    assert!(!is_ready(&mut honest, MIB));
    assert!(!complete.is_displaced());
}
