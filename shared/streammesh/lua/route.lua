#!lua flags=allow-oom
-- Hands what follows in one stream over to every service that the router serves, each entry exactly once: the position is
-- the gate. It moves from where the batch begins to where it ends within this call, so of several dispatchers that
-- come with the same entries one does it. A service whose queue is full is served no more: its own group is put to
-- where the batch begins, and its lane goes on from there when there is room.
-- KEYS stream (STREAM, of events), notifications (STREAM), counters (HASH), holding (SET),
--   version (STRING, of the manifests), memory_row (STRING), routed (HASH, how far the router is, and whom it serves)
-- ARGS kept (notifications), planned_by (version the batch was planned by, '*': any),
--   event_prefix, task_prefix (length of what stands before the id in the key of an event's row, of a task's row),
--   mark (percent of maxmemory), begins (position before the first entry), ends (position of the last),
--   members (which set of served services the batch was planned for), most_queued, most_held
-- subscriptions: KEYS queue (STREAM, or while it is paused the stream where its tasks wait), open_tasks (ZSET)
--   ARGS name (of the task), service, state ('queued' or 'held'), meta (its part of a task row's meta, JSON),
--   rest (what stands in a notification after the task's id, JSON), flow (its limits, JSON, '' where it has none),
--   keep (lifetime of ended rows, ms),
--   parts (of h, between which the task id stands)
-- kinds: ARGS source, event_type, want (deliveries in all services), meta (its part, JSON),
--   subscriptions (their numbers, ' 1 2')
-- entries: KEYS row (HASH, of the event) ARGS kind (its number), position, subject,
--   fragment (event for notifications, JSON), correlation (JSON)
-- entries.deliveries: KEYS task (HASH) ARGS expires (ms or ''), b (of the queue entry), key (of the flow, or '')
-- marks: KEYS task (HASH, of a delivery that an event may cancel, or that is of one which cancels), cancellable (ZSET),
--   canceller (HASH), cancelling (ZSET),
--   outboxes (STREAM each, of the other shards; none but for an event that cancels) ARGS is_canceller, id (of the task), digest (of the value), published (a moment),
--   by (what ends a task, JSON), work, changed (channel)
-- Returns {'done', handed over, services that it serves no more, ...}.
-- {'moved'}, {'stale'}, {'full'} and nothing done: the position or the set is another one, the manifests are, or the
-- mark is reached.
--#include _handover.lua
--#include _position.lua
--#include _served.lua
local state = redis.call('HMGET', routed, ':at', ':members')
if state[1] ~= begins or state[2] ~= members then return { 'moved' } end
local refused = why_not()
if refused then return refused end
local out, from = { 'done', 0 }, {}
for _, one in ipairs(subscriptions) do
  local service = one.service
  if from[service] == nil then from[service] = redis.call('HGET', routed, service) or '' end
  local most = one.state == 'queued' and most_queued or most_held
  if from[service] ~= '' and (redis.call('XLEN', one.queue) >= most
    or one.flow_control and write('ZCARD', one.flow_control.line) >= most_held) then
    stop_serving(service, begins)
    from[service] = ''
    out[#out + 1] = service
  end
end
for service, position in pairs(from) do
  if position ~= '' and not is_before(begins, position) then from[service] = 'all' end
end
local done = hand_over(function() return true end, function(wanting, one)
  local position = from[wanting.service]
  return position == 'all' or position ~= '' and is_before(position, one.position)
end)
if done.broken then
  if done.last then redis.call('HSET', routed, ':at', done.last) end
  return redis.error_reply(done.broken)
end
redis.call('HSET', routed, ':at', ends)
redis.call('HINCRBY', routed, ':read', #entries)
out[2] = done.handed
return out
