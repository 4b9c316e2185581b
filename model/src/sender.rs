//! A sender: Redis, then Kafka.

use crate::action::{KafkaAnswer, RedisAnswer};
use crate::redis::push_to_list;
use crate::rules::Rules;
use crate::state::{Detail, Record, Sender, State, Unconfirmed, small};

pub(crate) fn send_to_redis(s: &mut State, m: usize, answer: RedisAnswer, rules: &Rules) {
    if answer != RedisAnswer::Ok && !s.refuses {
        s.budget.redis_refusals -= 1;
    }
    s.msgs[m].sent_in = s.generation;
    if answer != RedisAnswer::Refused {
        let receiver_reads = s.position > 0 || s.budget.reads > 0;
        let msg = &mut s.msgs[m];
        msg.detail = Detail::Pending;
        msg.unconfirmed = Unconfirmed::Send;
        msg.pending_unread = receiver_reads;
    }
    if answer == RedisAnswer::Ok {
        push_to_list(s, m, rules);
        s.msgs[m].indexed = rules.pending_index;
        s.msgs[m].by_redis = true;
    }
    s.msgs[m].old = false;
    s.msgs[m].sender = Sender::Wrote(answer == RedisAnswer::Ok);
}

pub(crate) fn send_to_kafka(s: &mut State, m: usize, answer: KafkaAnswer) {
    let in_redis = s.msgs[m].sender == Sender::Wrote(true);
    if answer == KafkaAnswer::Ok {
        s.append(Record::Persist(small(m)));
    } else {
        s.budget.kafka_refusals -= 1;
        let msg = &mut s.msgs[m];
        msg.late = answer == KafkaAnswer::Late;
        msg.only_redis = in_redis;
        // Redis lost the message between the sender's two steps, and Kafka refused it: both of its places are gone.
        msg.lost_by_redis = in_redis && msg.detail == Detail::Missing;
    }
    let accepted = in_redis || answer == KafkaAnswer::Ok;
    s.msgs[m].sender = if accepted { Sender::Accepted } else { Sender::Refused };
}

/// A refused produce arrives after all.
pub(crate) fn late_record_arrives(s: &mut State, m: usize) {
    s.msgs[m].late = false;
    s.msgs[m].only_redis = false;
    s.append(Record::Persist(small(m)));
}
