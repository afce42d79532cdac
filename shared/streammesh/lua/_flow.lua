-- Flow control of a subscription: how many of its tasks may be under way, and whose turn is next. What may not start waits
-- in a line, state `pending`; who frees a place gives it on in the same script. A subscription without options has no `flow`
-- in its task's rows, and nothing of this is called.
-- Keys, all made from the task's name: `flow:NAME` (HASH: `declared` by the manifest, `set` by an operator, both JSON; `turn`),
-- and four ZSETs that vanish when empty. `flow-line:NAME` and `flow-places:NAME` have score 0 and are read by ranges of
-- members: KEY\0RANK TASK in line (the rank is a digit, 0 for priority 9, and the padded position of the event), KEY\0TASK for
-- a place. `flow-ready:NAME`: keys of which one could start, by turn. `flow-slow:NAME`: keys that wait for their rate, by when.
-- `flow-rate:NAME`: key -> when the next one would be due if all were started evenly (GCRA), as long as that is ahead.
-- `debounce` only: `flow-until:NAME` (ZSET): keys of which events still come -> when they have waited long enough (ms); and
-- `flow-runs:NAME` (ZSET, by ranges of members as the line): KEY\0RANK TASK of runs that took what is before them in their key's
-- line. Those are pending until the dispatcher's folder ends them as `folded`; `folding` (SET) names the subscriptions.
-- A task's row has `flow` = NAME\0KEY\0RANK for its life, and while it is pending `h`, `b`, `u` (of the queue entry, `u` where it
-- has one) and `to` (what its queue's key has after `queue:`).
-- Who uses it: opens the flow once (`flow_named`, `flow_of`), asks `flow_enter` before it queues a task, calls `flow_leave`
-- when one ends or only waits, `flow_again` when such a one goes on. What else may be put in front of the queue (a task that
-- is not to start before some time) stands in the line with its key in `flow-slow`: `flow_sleep`, and `flow_pump` starts it.
-- Nothing here fails for what somebody else wrote: a key of another type is set aside, limits that are none do not count.
--#include _time.lua
--#include _entry.lua
local STARTED_AT_ONCE = 4  -- by who frees one place; where a limit was raised the dispatcher starts the rest
local flow_cache = {}

local function flow_number(value)
  return type(value) == 'number' and value >= 1 and value or nil
end

local function flow_rate(value)
  return type(value) == 'table' and type(value[1]) == 'number' and value[1] > 0 and type(value[2]) == 'number' and value or nil
end

local function flow_json(text)
  local read, value = pcall(cjson.decode, text or '')
  return read and type(value) == 'table' and value or {}
end

-- The flow of a subscription; with `declared` (JSON, of its manifest) that counts from now on.
local function flow_named(prefix, name, declared)
  local f = flow_cache[name]
  if f then return f end
  f = { prefix = prefix, name = name, key = prefix .. 'flow:' .. name, line = prefix .. 'flow-line:' .. name,
    places = prefix .. 'flow-places:' .. name, ready = prefix .. 'flow-ready:' .. name, slow = prefix .. 'flow-slow:' .. name,
    rates = prefix .. 'flow-rate:' .. name, untils = prefix .. 'flow-until:' .. name, runs = prefix .. 'flow-runs:' .. name,
    due = prefix .. 'due', due_entries = prefix .. 'due-entries',
    now = now_ms() }
  local stored = write('HMGET', f.key, 'declared', 'set')
  if declared and declared ~= stored[1] then
    write('HSET', f.key, 'declared', declared)
    write('SADD', prefix .. 'flows', name)
  end
  local said, set = flow_json(declared or stored[1]), flow_json(stored[2])
  f.is_known = declared or stored[1]  -- where nobody knows the limits nothing starts, until the dispatcher says them
  f.is_fair, f.is_ordered, f.singleton = said.fair == true, said.order == true, said.singleton
  f.debounce, f.max_wait = flow_number(said.debounce), flow_number(said.max_wait)
  f.batch, f.linger = flow_number(said.batch), flow_number(said.linger) or 1
  local is_alone = f.is_ordered or said.singleton ~= nil and said.singleton ~= cjson.null
  f.keeps = is_alone or f.debounce ~= nil  -- its place while a task only waits
  f.most = is_alone and 1 or flow_number(set.concurrency) or flow_number(said.concurrency)
  f.total = flow_number(set.total) or flow_number(said.total)
  f.throttle = flow_rate(set.throttle) or flow_rate(said.throttle)
  f.drop = flow_rate(set.drop) or flow_rate(said.drop)
  f.is_paused = redis.call('HEXISTS', prefix .. 'paused', name) == 1
  flow_cache[name] = f
  return f
end

-- The flow, the key and the rank that a task's row names; nothing where it has none.
local function flow_of(row_key, field)
  local name, key, rank = string.match(field or '', '^(%Z+)%z(%Z*)%z(%Z+)$')
  if not name then return nil end
  return flow_named(string.match(row_key, '^(.-}:)'), name), key, rank
end

-- Where a task stands in its key's line: by the priority of its queue's stream (not with `order` and
-- `debounce`), then in stream order.
local function flow_rank_of(f, queue, position)
  local ms, number = string.match(position, '^(%d+)%-(%d+)$')
  local priority = (f.is_ordered or f.debounce) and 5 or tonumber(string.match(queue, ':p(%d)$') or '5')
  return (9 - priority) .. string.format('%014.0f-%07.0f', tonumber(ms) or 0, tonumber(number) or 0)
end

local function flow_running(f, key)
  return write('ZLEXCOUNT', f.places, '[' .. key .. '\0', '(' .. key .. '\1')
end

-- Whether a run of the key took what stands at this place of its line.
local function is_taken(f, key, member)
  return write('ZLEXCOUNT', f.runs, '(' .. member, '(' .. key .. '\1') > 0
end

-- Who of a key starts next: the first in line; with `debounce` the last, which takes those before it.
local function flow_head(f, key)
  if f.debounce then
    local last = write('ZREVRANGEBYLEX', f.line, '(' .. key .. '\1', '[' .. key .. '\0', 'LIMIT', 0, 1)[1]
    return last and not is_taken(f, key, last) and last or nil
  end
  return write('ZRANGEBYLEX', f.line, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1)[1]
end

local function flow_waiting(f, key)
  return write('ZLEXCOUNT', f.line, '[' .. key .. '\0', '(' .. key .. '\1')
end

local function has_room(f, key)
  return not f.most or flow_running(f, key) < f.most
end

-- Whose turn is when: with `fair` behind all that wait, else by the rank of the first one in line.
local function flow_turn(f, rank)
  if f.is_fair then return digits(write('HINCRBY', f.key, 'turn', 1)) end
  local priority, ms = string.match(rank, '^(%d)(%d+)')
  return digits((tonumber(priority) or 0) * 1e13 + (tonumber(ms) or 0))
end

-- When a key may start one, if that is not now. r = {ms from one to the next, ms that may be made up for}
local function rate_wait(f, r, key)
  local at = tonumber(write('ZSCORE', f.rates, key) or '0') or 0
  return at > f.now and at or nil
end

local function rate_take(f, r, key)
  local at = math.max(tonumber(write('ZSCORE', f.rates, key) or '0') or 0, f.now - r[2])
  write('ZADD', f.rates, string.format('%.3f', at + r[1]), key)
  local idle = write('ZRANGEBYSCORE', f.rates, '-inf', digits(f.now - r[2]), 'LIMIT', 0, 20)
  if #idle > 0 then write('ZREM', f.rates, unpack(idle)) end
end

-- Has the subscription looked at again at a time, or when the first of its sleeping keys is due.
local function flow_alarm(f, at)
  at = at or tonumber(write('ZRANGE', f.slow, 0, 0, 'WITHSCORES')[2] or '')
  if not at then return end
  local member = 'flow:' .. f.name
  at = math.ceil(at)
  local known = tonumber(write('ZSCORE', f.due, member) or '')
  if known and known <= at then return end
  write('ZADD', f.due, digits(at), member)
  write('HSET', f.due_entries, member, cjson.encode({ kind = 'flow', name = f.name }))
  if redis.call('ZRANGE', f.due, 0, 0)[1] == member then redis.call('PUBLISH', f.prefix .. 'manifests-changed', 'due') end
end

-- A key starts nothing before a time (ms).
local function flow_sleep(f, key, at)
  write('ZREM', f.ready, key)
  write('ZADD', f.slow, string.format('%.3f', at), key)
  flow_alarm(f)
end

local function make_ready(f, key, rank)
  if write('ZSCORE', f.ready, key) then return end
  if write('ZSCORE', f.slow, key) then
    if not f.batch or flow_waiting(f, key) < f.batch then return end  -- a full batch need not wait longer
    write('ZREM', f.slow, key)
  end
  write('ZADD', f.ready, flow_turn(f, rank), key)
end

--#include _batch.lua

-- Queues the first in line of a key; answers how many tasks started with it, nothing where there was none to queue.
local function flow_start(f, key, member)
  write('ZREM', f.line, member)
  local task = string.match(member, ' (%S*)$') or ''
  local row_key = f.prefix .. 'task:' .. task
  local row = redis.pcall('HMGET', row_key, 'state', 'h', 'b', 'to', 'u')
  if row.err or row[1] ~= 'pending' or not row[2] or not row[4] then return nil end  -- its reconciler puts it in again
  write('ZADD', f.places, 0, key .. '\0' .. task)
  local fields = { 'h', row[2], 'b', row[3] or '' }
  if row[5] then fields[5], fields[6] = 'u', row[5] end
  local entry = write('XADD', f.prefix .. 'queue:' .. row[4], '*', unpack(fields))
  redis.call('HSET', row_key, 'state', 'queued', 'entry', entry)
  local others = f.batch and take_along(f, key, task, row_key) or 0
  if others == 0 then redis.call('HDEL', row_key, 'h', 'b', 'to', 'u') end
  if f.debounce and write('ZLEXCOUNT', f.line, '[' .. key .. '\0', '(' .. member) > 0 then
    write('ZADD', f.runs, 0, member)
    if write('SADD', f.prefix .. 'folding', f.name) == 1 then redis.call('PUBLISH', f.prefix .. 'manifests-changed', 'fold') end
  end
  return 1 + others
end

-- Starts what may start, at most so many. Answers how many it started, and whether there may be more.
local function flow_pump(f, most)
  local started, looks = 0, 0
  if f.is_paused or not f.is_known then return 0, false end
  while started < most and looks < most * 4 do
    looks = looks + 1
    if f.total and write('ZCARD', f.places) >= f.total then return started, false end
    local key = write('ZRANGE', f.ready, 0, 0)[1]
    if not key then return started, false end
    local head = flow_head(f, key)
    local at = head and f.throttle and rate_wait(f, f.throttle, key)
    if not head or not has_room(f, key) then
      write('ZREM', f.ready, key)
    elseif at then
      flow_sleep(f, key, at)
    else
      local tasks = flow_start(f, key, head)
      if tasks then
        started = started + math.ceil(tasks / 25)  -- one of a batch costs little beside the run's own
        if f.throttle then rate_take(f, f.throttle, key) end
      end
      local next = flow_head(f, key)
      if next and f.batch and flow_waiting(f, key) < f.batch and not is_alone(f, next) then
        flow_sleep(f, key, f.now + f.linger)
      elseif next and has_room(f, key) then
        write('ZADD', f.ready, flow_turn(f, string.sub(next, #key + 2)), key)
      else
        write('ZREM', f.ready, key)
      end
    end
  end
  if f.batch and write('ZCARD', f.ready) > 0 then flow_alarm(f, f.now) end
  return started, true
end

-- Has a task wait until no further one of its key has come for a while, or the first has waited long enough. Those that come
-- when that is over, and the run only waits for a place, are taken too.
local function wait_for_more(f, key, member)
  local waits = flow_head(f, key)
  write('ZADD', f.line, 0, member)
  if is_taken(f, key, member) then return end  -- it is older than what has started
  if not waits then
    write('ZADD', f.untils, digits(f.now + (f.max_wait or 31622400000)), key)
    write('ZREM', f.ready, key)
  end
  local at = tonumber(write('ZSCORE', f.untils, key) or '')
  if at then flow_sleep(f, key, math.min(f.now + f.debounce, at)) end
end

-- Asks for a place for a task; the caller queues it where this answers true. Else it stands in line, and the caller stores
-- h, b and to in its row.
local function flow_enter(f, task, key, rank)
  if f.debounce or f.batch then
    local member = key .. '\0' .. rank .. ' ' .. task
    if f.debounce then wait_for_more(f, key, member) else gather(f, key, rank, member) end
    return false
  end
  local waits = flow_head(f, key)
  if not f.is_known and write('SADD', f.prefix .. 'flows', f.name) == 1 then  -- there were limits when the task was handed over
    redis.call('PUBLISH', f.prefix .. 'manifests-changed', 'flow')
  end
  if not waits and f.is_known and not f.is_paused and has_room(f, key)
    and (not f.total or write('ZCARD', f.places) < f.total and write('ZCARD', f.ready) == 0) then
    local at = f.throttle and rate_wait(f, f.throttle, key)
    if not at then
      if f.throttle then rate_take(f, f.throttle, key) end
      write('ZADD', f.places, 0, key .. '\0' .. task)
      return true
    end
    write('ZADD', f.line, 0, key .. '\0' .. rank .. ' ' .. task)
    flow_sleep(f, key, at)
    return false
  end
  write('ZADD', f.line, 0, key .. '\0' .. rank .. ' ' .. task)
  if not waits and has_room(f, key) then make_ready(f, key, rank) end
  return false
end

-- A task of a key that has a place, or is first in line; nil for none.
local function one_of(f, key)
  local placed = write('ZRANGEBYLEX', f.places, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 1)[1]
  if placed then return string.sub(placed, #key + 2) end
  local head = flow_head(f, key)
  return head and string.match(head, ' (%S*)$')
end

-- Has a task ended as cancelled, whatever it does: what runs is told, what waits is queued so that a worker ends it.
local function cancel_soon(f, task, service, queue)
  local row_key, member = f.prefix .. 'task:' .. task, 'task:' .. task
  local state = redis.call('HGET', row_key, 'state')
  if not state then return end
  redis.call('HSET', row_key, 'cancel', digits(f.now))
  if state == 'started' then redis.call('PUBLISH', f.prefix .. 'control:' .. service, task) end
  if state ~= 'retrying' and state ~= 'waiting' then return end
  local h, b = due_fields(f.due_entries, member)
  if not h then return end
  local entry = write('HGET', f.due_entries, member)
  local its, small = flow_json(entry).queue, unpacked(task, entry)  -- its priority may be another one
  if small then its = f.prefix .. 'queue:' .. small end
  if type(its) == 'string' and string.sub(its, 1, #f.prefix + 6) == f.prefix .. 'queue:' then queue = its end
  write('ZREM', f.due, member)
  write('HDEL', f.due_entries, member, 'h ' .. member, 'b ' .. member, 'u ' .. member)
  redis.call('HSET', row_key, 'state', 'queued', 'entry', write('XADD', queue, '*', 'h', h, 'b', b or ''))
  redis.call('HDEL', row_key, 'due', 'waiting')
end

-- Has the tasks of a key cancelled: what has a place, and the last in line; each before it was when the next came.
local function cancel_all_of(f, key, service, queue)
  for _, placed in ipairs(write('ZRANGEBYLEX', f.places, '[' .. key .. '\0', '(' .. key .. '\1', 'LIMIT', 0, 10)) do
    cancel_soon(f, string.sub(placed, #key + 2), service, queue)
  end
  for _, member in ipairs(write('ZREVRANGEBYLEX', f.line, '(' .. key .. '\1', '[' .. key .. '\0', 'LIMIT', 0, 1)) do
    cancel_soon(f, string.match(member, ' (%S*)$') or '', service, queue)
  end
end

-- Frees what a task has, a place or one in the line, and starts whose turn it is then.
local function flow_leave(f, key, rank, task)
  write('ZREM', f.places, key .. '\0' .. task)
  write('ZREM', f.line, key .. '\0' .. rank .. ' ' .. task)
  local head = flow_head(f, key)
  if head and has_room(f, key) then make_ready(f, key, string.sub(head, #key + 2)) end
  flow_pump(f, STARTED_AT_ONCE)
end

-- A task only waits (for its retry, in its handler): another one has its place meanwhile, but where order is kept.
local function let_go(row_key, field, task)
  local f, key, rank = flow_of(row_key, field)
  if f and redis.call('HEXISTS', row_key, 'batch') == 1 then  -- nobody knows whose fault it was
    scatter(f, row_key, task, true)
    redis.call('HSET', row_key, 'alone', 1)
  end
  if f and not f.keeps then flow_leave(f, key, rank, task) end
end

-- Queues a task that goes on (its time has come, what it waited for has): at once where it kept its place, else in its turn.
-- `fields`: of the queue entry, {'h', h, 'b', b, ...}. Sets its state and where it lies.
local function flow_again(row_key, field, task, queue, fields)
  local f, key, rank = flow_of(row_key, field)
  if f then
    scatter(f, row_key, task)
    redis.call('HDEL', row_key, 'run')
  end
  if f and f.debounce and (tonumber(redis.call('HGET', row_key, 'attempt') or '') or 0) > 0 then
    write('ZADD', f.places, 0, key .. '\0' .. task)  -- a run stays one
  end
  if f and not write('ZSCORE', f.places, key .. '\0' .. task) and not flow_enter(f, task, key, rank) then
    redis.call('HSET', row_key, 'state', 'pending', 'entry', '', 'h', fields[2], 'b', fields[4],
      'to', string.sub(queue, #f.prefix + 7))
    if fields[5] == 'u' then redis.call('HSET', row_key, 'u', fields[6]) end
    if f.batch then flow_pump(f, STARTED_AT_ONCE) end
    return
  end
  redis.call('HSET', row_key, 'state', 'queued', 'entry', write('XADD', queue, '*', unpack(fields)))
end

-- Whether a pending task stands in its line.
local function is_in_line(row_key, field, task)
  local f, key, rank = flow_of(row_key, field)
  return f ~= nil and write('ZSCORE', f.line, key .. '\0' .. rank .. ' ' .. task) ~= false
end
