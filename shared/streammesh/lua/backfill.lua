#!lua flags=allow-oom
-- Hands events of the past over to one service, each to each of its subscriptions once, and moves the backfill's position in
-- the same step. The position is the gate: of several dispatchers that come with the same page one does it.
-- What is past is decided here. What the service is being given in its own time, by its lane or by the router, is left to
-- them; what they are through with is past. A task that the event's row, the ledger or the history knows is not made again.
-- An event whose row has left for the history has it again while its new tasks go on; the archiver lets it go once more.
-- KEYS row (HASH, of the backfill), running (HASH, service -> id), notifications (STREAM), counters (HASH), holding (SET),
--   version (STRING, of the manifests), memory_row (STRING), joined (HASH), dead (HASH), dead_index (ZSET), dead_entries (HASH)
-- ARGS id, service, kept (notifications), planned_by (version the page was planned by),
--   event_prefix, task_prefix (length of what stands before the id in the key of an event's row, of a task's row),
--   mark (percent of maxmemory), begins (position before the page), ends (position after it), seen (events of the page),
--   known (deliveries of it that ran already), left_out (events of which nothing says what ran),
--   is_last (whether nothing follows), most_queued, most_held, retention (lifetime of an event's row, ms),
--   lifetime (of the backfill's row when it has ended, ms), domain_of (number of its domain, of each entry),
--   wants (deliveries of each entry in other services), again (states: of a replay, whose tasks that ended so begin anew),
--   old (id and state of tasks whose rows have left Redis)
-- domains: KEYS stream (STREAM, of events), routed (HASH, how far the router is, and whom it serves) ARGS name
-- left: ARGS entry (its number), at, want, done, failed (what stood in the row), tasks (ids that are known)
-- subscriptions: KEYS queue (STREAM, or while it is paused the stream where its tasks wait), open_tasks (ZSET)
--   ARGS name (of the task), service, state ('queued' or 'held'), meta (its part of a task row's meta, JSON),
--   rest (what stands in a notification after the task's id, JSON), flow (its limits, JSON, '' where it has none),
--   keep (lifetime of ended rows, ms),
--   parts (of h, between which the task id stands)
-- kinds: ARGS source, event_type, want (''), meta (its part, JSON), subscriptions (their numbers, ' 1 2')
-- entries: KEYS row (HASH, of the event) ARGS kind (its number), position, subject,
--   fragment (event for notifications, JSON), correlation (JSON)
-- entries.deliveries: KEYS task (HASH) ARGS expires (ms or ''), b (of the queue entry), key (of the flow, or '')
-- marks: KEYS task (HASH, of a delivery that an event may cancel, or that is of one which cancels), cancellable (ZSET),
--   canceller (HASH), cancelling (ZSET),
--   outboxes (STREAM each, of the other shards; none but for an event that cancels) ARGS is_canceller, id (of the task), digest (of the value), published (a moment),
--   by (what ends a task, JSON), work, changed (channel)
-- Returns {'done', tasks handed over}.
-- Nothing was done: {'ended'}, {'moved'} (another was here), {'stale'} (the manifests have changed), {'full'} (Redis is),
-- {'busy'} (the queue is), {'early', ms} (by its rate), {'lane'} (the service's lane has it in hand), {'again'} (a row left).
--#include _handover.lua
--#include _position.lua
--#include _groups.lua
--#include _dead.lua
local state = redis.call('HMGET', row, 'state', 'position', 'next', 'rate')
if state[1] ~= 'running' or redis.call('HGET', running, service) ~= id then return { 'ended' } end
if state[2] ~= begins then return { 'moved' } end
local time, rate = now_ms(), tonumber(state[4] or '')
local early = (tonumber(state[3] or '') or 0) - time
if rate and early > 0 and #entries > 0 then return { 'early', digits(math.ceil(early)) } end
local refused = why_not()
if refused then return refused end
for _, one in ipairs(subscriptions) do
  local most = one.state == 'queued' and most_queued or most_held
  local f = one.flow_control
  if redis.call('XLEN', one.queue) >= most or f and write('ZCARD', f.line) >= most_held then return { 'busy' } end
end

-- Up to where the service has been given a domain's events; `from`: the oldest of those that are in its lane's hands.
local function live_of(domain)
  if redis.call('TYPE', domain.stream).ok ~= 'stream' then return {} end
  local served = redis.pcall('HMGET', domain.routed, service, ':at')
  if not served.err and served[1] and served[2] then
    return { after = is_before(served[2], served[1]) and served[1] or served[2] }
  end
  local group = group_of(domain.stream, service)
  if group then
    local from = group.pending > 0 and redis.call('XPENDING', domain.stream, service)[2] or nil
    return { after = group['last-delivered-id'], from = from }
  end
  local at = redis.pcall('HGET', joined, domain.name .. ' ' .. service)
  return { after = type(at) == 'string' and at or '0-0' }
end

local lives, row_of, is_again, old_state = {}, {}, {}, {}
for _, one in ipairs(again) do is_again[one] = true end
for _, one in ipairs(old) do
  local id_of, was = string.match(one, '^(%S+) (%S+)$')
  if id_of and is_again[was] then old_state[id_of] = was end
end
for i, domain in ipairs(domains) do lives[i] = live_of(domain) end
for _, one in ipairs(left) do row_of[one.entry] = one end
local function lies_there(stream, position) return #redis.call('XRANGE', stream, position, position) > 0 end

-- What is asked first, so that nothing is written where something stands in the way.
local plans, live = {}, 0
for i, one in ipairs(entries) do
  local number = tonumber(domain_of[i])
  local its, stream, position = lives[number], domains[number].stream, one.position
  local plan = { is_mine = true }
  if its.after and is_before(its.after, position) and lies_there(stream, position) then
    plan.is_mine, live = false, live + 1
  elseif its.from and not is_before(position, its.from) and not is_before(its.after, position) and lies_there(stream, position) then
    return { 'lane' }
  else
    local source = kinds[one.kind].source
    local found = redis.pcall('HMGET', one.row, 'at:' .. source, 'want:' .. source)
    if found.err then return redis.error_reply(found.err) end
    plan.want = found[2]
    if not found[1] then
      plan.left = row_of[i]
      if not plan.left then return { 'again' } end
      plan.want = plan.left.want ~= '' and plan.left.want or false
    end
    local ran, made, anew = {}, 0, {}
    for _, task in ipairs(plan.left and plan.left.tasks or {}) do ran[task] = true end
    for _, delivery in ipairs(one.deliveries) do
      local task = string.sub(delivery.task, task_id)
      if #again > 0 then
        local ended = redis.pcall('HGET', delivery.task, 'state') or old_state[task]
        if type(ended) == 'string' and is_again[ended] then
          made, anew[#anew + 1] = made + 1, { task = task, row = delivery.task, was = ended }
        end
      elseif not ran[task] and redis.call('HEXISTS', one.row, 'task:' .. task) == 0 and redis.call('EXISTS', delivery.task) == 0 then
        made = made + 1
      end
    end
    plan.made, plan.anew = made, anew
    if made == 0 then plan.is_mine = false end
  end
  plans[one] = plan
end
local deliveries = 0
for i, one in ipairs(entries) do
  local plan, source = plans[one], kinds[one.kind].source
  if plan.made then deliveries = deliveries + #one.deliveries end
  if plan.is_mine then
    local was = plan.left
    if was then
      redis.call('HSET', one.row, 'at:' .. source, was.at, 'done:' .. source, was.done, 'failed:' .. source, was.failed)
      for _, task in ipairs(was.tasks) do redis.call('HSET', one.row, 'task:' .. task, source) end
    end
    -- Its end is told anew when the new tasks have ended too.
    redis.call('HSET', one.row, 'want:' .. source, digits((tonumber(plan.want or wants[i]) or 0) + plan.made - #plan.anew))
    for _, task in ipairs(plan.anew) do
      redis.call('DEL', task.row)
      redis.call('HDEL', one.row, 'task:' .. task.task)
      unpark({ dead = dead, index = dead_index, entries = dead_entries }, task.task)
      for _, field in ipairs({ 'done:' .. source, task.was ~= 'succeeded' and 'failed:' .. source or nil }) do
        if (tonumber(redis.call('HGET', one.row, field) or '0') or 0) > 0 then write('HINCRBY', one.row, field, -1) end
      end
    end
    if redis.call('PTTL', one.row) < retention then redis.call('PEXPIRE', one.row, retention) end
  end
end
local done = hand_over(function(one) return plans[one].is_mine end, function() return true end)
if done.broken then return redis.error_reply(done.broken) end
redis.call('HSET', row, 'position', ends, 'moved', digits(time), 'waits', '')
local counted = { events = seen, tasks = done.handed, known = known + deliveries - done.handed, live = live, left_out = left_out }
for field, number in pairs(counted) do
  if number > 0 then write('HINCRBY', row, field, number) end
end
if rate and done.handed > 0 then
  redis.call('HSET', row, 'next', digits(math.max(time, time + early) + done.handed * 1000 / rate))
end
if is_last then
  redis.call('HSET', row, 'state', 'done', 'ended', digits(time))
  redis.call('HDEL', running, service)
  redis.call('PEXPIRE', row, lifetime)
end
return { 'done', done.handed }
