#!lua flags=allow-oom
-- Hands a batch of one stream's entries over to a service's queue, each exactly once: XACK is the gate.
-- An entry whose XACK does not answer 1 was handed over before (by a call whose reply was lost, by
-- another dispatcher, before a SIGKILL) and is skipped. A task that has a ledger row already is not
-- queued again either, nor is one that the event's row knows: a group made anew from an old position
-- does no harm.
-- What a service is given while the router serves it is the router's: it is acknowledged and nothing else. A lane that
-- has come as far as the router, with nothing in anybody's hands and room in the queue, leaves its service to it.
-- KEYS stream (STREAM, of events), notifications (STREAM), counters (HASH), holding (SET),
--   version (STRING, of the manifests), memory_row (STRING), routed (HASH, how far the router is, and whom it serves)
-- ARGS group, kept (notifications), planned_by (version the batch was planned by, '*': any),
--   event_prefix, task_prefix (length of what stands before the id in the key of an event's row, of a task's row),
--   mark (percent of maxmemory), may_join (whether the service may be left to the router), most_queued, most_held
-- subscriptions: KEYS queue (STREAM, or while it is paused the stream where its tasks wait), open_tasks (ZSET)
--   ARGS name (of the task), service, state ('queued' or 'held'), meta (its part of a task row's meta, JSON),
--   rest (what stands in a notification after the task's id, JSON), flow (its limits, JSON, '' where it has none),
--   keep (lifetime of ended rows, ms),
--   parts (of h, between which the task id stands)
-- kinds: ARGS source, event_type, want (deliveries in all services, '' if not known), meta (its part, JSON),
--   subscriptions (their numbers, ' 1 2')
-- entries: KEYS row (HASH, of the event) ARGS kind (its number), position, subject,
--   fragment (event for notifications, JSON), correlation (JSON)
-- entries.deliveries: KEYS task (HASH) ARGS expires (ms or ''), b (of the queue entry), key (of the flow, or '')
-- marks: KEYS task (HASH, of a delivery that an event may cancel, or that is of one which cancels), cancellable (ZSET),
--   canceller (HASH), cancelling (ZSET),
--   outboxes (STREAM each, of the other shards; none but for an event that cancels) ARGS is_canceller, id (of the task), digest (of the value), published (a moment),
--   by (what ends a task, JSON), work, changed (channel)
-- Returns {handed over, skipped, length of the longest stream of a queue that it put into, most tasks that wait for one
-- paused subscription, whether the router serves the service from now on (1 or 0)}; -1 for what was not touched.
-- {'stale'} and nothing done: the manifests have changed since the batch was planned.
-- {'full'} and nothing done: something would be queued, and the mark is reached.
-- {'routed'}: the router serves the service. {'early', ...}, and then as above: a subscription wants its events in their order,
-- and earlier ones of the stream are in another lane's hands; done was what is before those, it may be nothing.
--#include _handover.lua
--#include _position.lua
--#include _groups.lua
local refused = why_not()
if refused then return refused end
local from = redis.pcall('HMGET', routed, group, ':at', ':anew ' .. group)
if not from.err and from[1] and from[2] then
  for _, one in ipairs(entries) do redis.call('XACK', stream, group, one.position) end
  return { 'routed' }
end

-- Takes from the batch what is not before all that other lanes have in hand; answers whether that was anything.
local function leave_for_later()
  local is_ordered = false
  for _, one in ipairs(subscriptions) do is_ordered = is_ordered or one.flow_control and one.flow_control.is_ordered end
  if not is_ordered then return false end
  local ours, count = {}, #entries
  for _, one in ipairs(entries) do ours[one.position] = true end
  local listed = redis.pcall('XPENDING', stream, group, '-', entries[count].position, count + 1)
  for _, pending in ipairs(listed.err and {} or listed) do  -- no group: then nothing of the batch is this lane's
    if not ours[pending[1]] then
      while #entries > 0 and is_before(pending[1], entries[#entries].position) do entries[#entries] = nil end
      return #entries < count
    end
  end
  return false
end

local is_early = leave_for_later()
-- Its group was deleted, and made anew: what has left Redis up to there had ended, and is not done once more.
local anew = not from.err and from[3]
local done = hand_over(
  function(one)
    local mine = redis.call('XACK', stream, group, one.position) == 1
    return mine
  end,
  function(_, one, has_row) return has_row or not anew or is_before(anew, one.position) end)
if done.broken then return redis.error_reply(done.broken) end
local queued, held, joined = longest(done.queued), math.max(longest(done.held), longest_line()), 0
local at = not from.err and from[2]
if may_join and at and queued < most_queued and held < most_held
  and (#entries == 0 or not is_before(entries[#entries].position, at)) then
  -- Once for each time that a lane comes to the head of its stream: the list of groups is as long as there are services.
  local info = group_of(stream, group)
  if info and info.pending == 0 and not is_before(info['last-delivered-id'], at) then
    redis.call('HSET', routed, group, info['last-delivered-id'])
    redis.call('HDEL', routed, ':anew ' .. group)
    redis.call('HINCRBY', routed, ':members', 1)
    joined = 1
  end
end
if is_early then return { 'early', done.handed, done.skipped, queued, held, joined } end
return { done.handed, done.skipped, queued, held, joined }
