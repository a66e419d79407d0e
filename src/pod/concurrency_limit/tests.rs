use super::*;

const QUEUE: usize = 100;

fn with_limit(limit: usize) -> Arc<ConcurrencyLimit> {
    let concurrency = Arc::new(ConcurrencyLimit::default());
    concurrency.set_limit(limit);
    concurrency
}

fn slot(admitted: Admitted) -> Slot {
    match admitted {
        Admitted::Now(slot) => slot,
        other => panic!("it should not wait: {other:?}"),
    }
}

fn waiting(admitted: Admitted) -> Waiting {
    match admitted {
        Admitted::Later(waiting) => waiting,
        other => panic!("it should wait: {other:?}"),
    }
}

#[test]
fn the_limit_shrinks_fast_grows_slowly_and_stays_where_nothing_is_known() {
    use Pressure::*;
    for (limit, peak, waiting, pressure, next) in [
        (128, 10, 0, Little, 128),
        (128, 110, 0, Little, 144),
        (128, 128, 5, Little, 256),
        (128, 128, 0, Enough, 128),
        (128, 128, 5, Enough, 144),
        (128, 128, 5, TooMuch, 89),
        (128, 10, 0, TooMuch, 8),
        (8, 8, 50, TooMuch, 8),
        (8, 8, 50, Enough, 9),
        (4096, 4096, 1, Little, 4096),
    ] {
        let found = next_limit(limit, peak, waiting, pressure);
        assert_eq!(found, next, "{limit}, {peak}, {waiting}, {pressure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_least_urgent_is_served_too_while_others_keep_coming() {
    let limit = with_limit(8);
    let mut slots: VecDeque<Slot> = (0..8).map(|_| slot(limit.admit(Urgency::Interactive, QUEUE))).collect();
    let mut idle = waiting(limit.admit(Urgency::Idle, QUEUE));
    let mut pages = VecDeque::new();
    for turn in 1.. {
        pages.push_back(waiting(limit.admit(Urgency::Interactive, QUEUE)));
        slots.pop_front();
        if idle.slot(Duration::from_millis(1)).await.is_some() {
            assert_eq!(turn, FAIR, "its turn");
            break;
        }
        slots.push_back(pages.pop_front().expect("a page").slot(Duration::from_millis(1)).await.expect("a slot"));
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_go_by_what_they_are_and_then_by_their_turn() {
    let limit = with_limit(8);
    let mut slots: Vec<Slot> = (0..8).map(|_| slot(limit.admit(Urgency::Interactive, QUEUE))).collect();
    let mut idle = waiting(limit.admit(Urgency::Idle, QUEUE));
    let mut picture = waiting(limit.admit(Urgency::Background, QUEUE));
    let mut page = waiting(limit.admit(Urgency::Interactive, QUEUE));
    let film = slot(limit.admit(Urgency::Playing, QUEUE));
    assert_eq!((limit.waiting(), limit.under_way()), (3, 9));
    let soon = Duration::from_millis(1);
    drop(film);
    assert!(page.slot(soon).await.is_none(), "eight are under way");
    slots.pop();
    let page = page.slot(soon).await.expect("the page goes first");
    assert!(picture.slot(soon).await.is_none() && idle.slot(soon).await.is_none());
    slots.truncate(4);
    let picture = picture.slot(soon).await.expect("then the picture");
    assert!(idle.slot(soon).await.is_none(), "six are under way, and four at most with an idle socket");
    drop((page, picture));
    slots.pop();
    assert!(idle.slot(soon).await.is_some());
    drop(slots);
    assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_queue_takes_no_slot_with_it() {
    let limit = with_limit(1);
    let first = slot(limit.admit(Urgency::Interactive, QUEUE));
    let gone = waiting(limit.admit(Urgency::Interactive, 2));
    let mut stays = waiting(limit.admit(Urgency::Interactive, 2));
    assert!(matches!(limit.admit(Urgency::Interactive, 2), Admitted::Full));
    drop(gone);
    let mut late = waiting(limit.admit(Urgency::Interactive, 2));
    drop(first);
    let second = stays.slot(Duration::from_millis(1)).await.expect("its turn");
    drop(second);
    assert!(late.slot(Duration::from_millis(1)).await.is_some());
    assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_slot_is_lost_among_many_threads() {
    let limit = with_limit(3);
    let tasks = (0..64).map(|number| {
        let limit = limit.clone();
        tokio::spawn(async move {
            for turn in 0..50 {
                let urgency = [Urgency::Interactive, Urgency::Background, Urgency::Idle][(number + turn) % 3];
                let slot = match limit.admit(urgency, QUEUE) {
                    Admitted::Now(slot) => Some(slot),
                    Admitted::Later(mut waiting) => waiting.slot(Duration::from_secs(30)).await,
                    Admitted::Full => None,
                };
                assert!(slot.is_some() && limit.under_way() <= 3);
                tokio::task::yield_now().await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    assert_eq!((limit.waiting(), limit.under_way()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn in_a_full_queue_the_newest_of_the_least_urgent_makes_room() {
    const SMALL: usize = 4;
    let limit = with_limit(8);
    let slots: Vec<Slot> = (0..8).map(|_| slot(limit.admit(Urgency::Interactive, SMALL))).collect();
    let mut pictures: Vec<_> = (0..3).map(|_| waiting(limit.admit(Urgency::Background, SMALL))).collect();
    let mut idle = waiting(limit.admit(Urgency::Idle, SMALL));
    assert!(matches!(limit.admit(Urgency::Idle, SMALL), Admitted::Full));
    pictures.push(waiting(limit.admit(Urgency::Background, SMALL)));
    let soon = Duration::from_millis(1);
    assert!(tokio::time::timeout(soon, idle.slot(Duration::MAX)).await.expect("at once").is_none());
    assert!(matches!(limit.admit(Urgency::Background, SMALL), Admitted::Full), "all are as urgent");
    let mut pages: Vec<_> = (0..4).map(|_| waiting(limit.admit(Urgency::Interactive, SMALL))).collect();
    assert!(matches!(limit.admit(Urgency::Interactive, SMALL), Admitted::Full));
    assert_eq!(limit.waiting(), SMALL);
    for picture in pictures.iter_mut().rev() {
        assert!(tokio::time::timeout(soon, picture.slot(Duration::MAX)).await.expect("at once").is_none());
    }
    drop(slots);
    for page in &mut pages {
        assert!(page.slot(soon).await.is_some());
    }
    assert_eq!(limit.waiting(), 0);
}
