-- Hands entries of one stream over to queues. Of the script that includes it it takes the locals that handoff.lua and
-- route.lua declare alike: notifications, counters, holding, version, memory_row, kept, planned_by, event_prefix,
-- task_prefix, mark, subscriptions, kinds, entries, marks.
--#include _time.lua
--#include _memory.lua
--#include _notify.lua
--#include _cancels.lua
--#include _flow.lua
local now, event_id, task_id = digits(now_ms()), event_prefix + 1, task_prefix + 1

-- Why nothing may be handed over now: {'stale'}, {'full'}, an error; nil where it may.
local function why_not()
  if planned_by ~= '*' and (redis.call('GET', version) or '') ~= planned_by then return { 'stale' } end
  if #subscriptions > 0 then
    local used, most = memory(memory_row, now_ms())
    if used * 100 > most * mark then return { 'full' } end
  end
  -- A script is not rolled back: what could fail fails here, or for an entry before it is acknowledged.
  local function wrong_type(key, should)
    local is = redis.call('TYPE', key).ok
    return is ~= 'none' and is ~= should and redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. is)
  end
  for _, one in ipairs(subscriptions) do
    local wrong = wrong_type(one.queue, 'stream') or wrong_type(one.open_tasks, 'zset')
    if wrong then return wrong end
    one.note = { stream = notifications, kept = kept, type = 'task.' .. one.state, service = one.service }
    if string.find(one.name, '.wake_', 1, true) then one.waking = string.match(notifications, '^(.-}:)') .. 'waking:' .. one.service end
    if one.flow ~= '' then one.flow_control = flow_named(string.match(notifications, '^(.-}:)'), one.name, one.flow) end
  end
  for _, kind in ipairs(kinds) do
    local mine, source = {}, kind.source
    for number in string.gmatch(kind.subscriptions, '%d+') do mine[#mine + 1] = subscriptions[tonumber(number)] end
    kind.wants, kind.at, kind.notes, kind.wanted = mine, 'at:' .. source, 'notes:' .. source, 'want:' .. source
  end
  return wrong_type(counters, 'hash') or wrong_type(holding, 'set') or nil
end

-- Ends a task as skipped that was never started.
local function skip(f, t, note, reason)
  local outcome = '{"error":{"reason":' .. cjson.encode(reason) .. ',"kind":"Skipped"}}'
  redis.call('HSET', t.task, 'state', 'skipped', 'attempt', 0, 'queued', now, 'ended', now, 'meta', t.meta, 'outcome', outcome)
  redis.call('PEXPIRE', t.task, t.keep)
  write('XADD', f.prefix .. 'tasks-recent', '*', 's', 'skipped', 'n', f.name, 'v', note.service, 'a', '0', 'q', now, 'r', '',
    'k', t.id, 'y', t.event_type)
  write('HINCRBY', f.key, 'skipped', 1)
  note.type, note.data = 'task.skipped', outcome
  return true
end

-- Starts a task of a subscription with flow control, has it wait in line, or skips it; answers whether it has ended.
local function enter_flow(f, t, note)
  local rank = flow_rank_of(f, t.queue, t.position)
  local field = f.name .. '\0' .. t.key .. '\0' .. rank
  note.data = nil
  if f.drop then
    if rate_wait(f, f.drop, t.key) then return skip(f, t, note, 'beyond the rate of its key ' .. cjson.encode(t.key)) end
    rate_take(f, f.drop, t.key)
  end
  if f.singleton == 'skip' then
    local other = one_of(f, t.key)
    if other then return skip(f, t, note, 'the run ' .. other .. ' has the place of its key ' .. cjson.encode(t.key)) end
  elseif f.singleton == 'cancel_running' then
    cancel_all_of(f, t.key, note.service, t.queue)
  end
  if flow_enter(f, t.id, t.key, rank) then
    local place = redis.call('XADD', t.queue, '*', 'h', t.h, 'b', t.b)
    redis.call('HSET', t.task, 'state', 'queued', 'attempt', 0, 'queued', now, 'meta', t.meta, 'entry', place, 'flow', field)
    note.type = 'task.queued'
  else
    redis.call('HSET', t.task, 'state', 'pending', 'attempt', 0, 'queued', now, 'meta', t.meta, 'flow', field,
      'h', t.h, 'b', t.b, 'to', string.sub(t.queue, #f.prefix + 7))
    note.type = 'task.pending'
  end
end

-- Hands over the entries in their order, those that `is_mine` says are this call's, to the subscriptions that `takes` them
-- (the third argument: whether the event's row is there).
-- Returns {handed, skipped, queued, held (streams that it put into, sets), broken (error of one that it could not),
-- last (position up to which all was done)}.
local function hand_over(is_mine, takes)
  local tasks = {}
  for _, entry in ipairs(entries) do
    for _, delivery in ipairs(entry.deliveries) do tasks[#tasks + 1] = delivery.task end
  end
  -- Most batches are all new, and one question tells; `made` knows what this call adds to the answer.
  local any, made = false, {}
  for i = 1, #tasks, 1000 do
    any = any or redis.call('EXISTS', unpack(tasks, i, math.min(i + 999, #tasks))) > 0
  end
  for _, task in ipairs(any and tasks or {}) do redis.call('HLEN', task) end
  local out, opened = { handed = 0, skipped = 0, queued = {}, held = {} }, {}
  for _, one in ipairs(entries) do
    local row, kind, subject, fragment, deliveries = one.row, kinds[one.kind], one.subject, one.fragment, one.deliveries
    local event, source, want = string.sub(row, event_id), kind.source, kind.want
    local known = redis.pcall('HMGET', row, kind.at, kind.notes, kind.wanted,
      'task:' .. (deliveries[1] and string.sub(deliveries[1].task, task_id) or ''))
    if known.err then  -- nothing was done yet for this entry; what was for those before it is kept
      out.broken = known.err
      break
    end
    local mine = is_mine(one)
    if not mine then out.skipped = out.skipped + 1 end
    local notes, changes = known[2], {}
    -- A subscription that came since somebody else said how many want it raises the number.
    if mine and known[1] and want ~= '' and (tonumber(known[3]) or -1) < tonumber(want) then
      changes = { kind.wanted, want }
      if want == '0' then
        write('HINCRBY', counters, 'unrouted', 1)
        notes = noted(notes, tell({ stream = notifications, kept = kept, type = 'event.unrouted', event = event, task = '',
          service = '', event_type = kind.event_type, subject = subject,
          body = fragment .. ',"data":{"reason":"no subscription wants it"}' }))
      end
    end
    local skipped = 0
    for d, wanting in ipairs(kind.wants) do
      local task, expires, b = deliveries[d].task, deliveries[d].expires, deliveries[d].b
      local id, state, queue = string.sub(task, task_id), wanting.state, wanting.queue
      if state == 'queued' then out.queued[queue] = true else out.held[queue] = true end
      local is_known = d == 1 and known[4] or d > 1 and redis.call('HEXISTS', row, 'task:' .. id) == 1
      local wanted = mine and takes(wanting, one, known[1])
      if wanted and not is_known and not made[task] and not (any and redis.call('EXISTS', task) == 1) then
        local meta = '{' .. string.sub(fragment, 1, -2) .. ',"entry":"' .. one.position .. '","correlation":'
          .. one.correlation .. kind.meta .. wanting.meta
        local h, place = table.concat(wanting.parts, id)
        local flow = wanting.flow_control
        local over = false
        if flow then
          over = enter_flow(flow, { event_type = kind.event_type, keep = wanting.keep, id = id, task = task, key = deliveries[d].key, queue = queue, position = one.position, h = h, b = b,
            meta = meta }, wanting.note)
        elseif state == 'queued' then
          place = redis.call('XADD', queue, '*', 'h', h, 'b', b)
          redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'entry', place)
        else
          place = redis.call('XADD', queue, '*', 'k', id, 'h', h, 'b', b)
          redis.call('SADD', holding, wanting.name)
          redis.call('HSET', task, 'state', state, 'attempt', 0, 'queued', now, 'meta', meta, 'held', place)
        end
        if expires ~= '' and not over then redis.call('HSET', task, 'expires', expires) end
        local note = wanting.note
        note.event, note.task, note.event_type, note.subject = event, id, kind.event_type, subject
        note.body = fragment .. ',"task":{"id":"' .. id .. wanting.rest
        if over then note.body = string.sub(note.body, 1, -3) .. note.data end  -- in place of {}
        notes = noted(notes, tell(note))
        changes[#changes + 1], changes[#changes + 2] = 'task:' .. id, source
        if over then
          skipped = skipped + 1
        else
          local list = opened[wanting.open_tasks] or {}
          list[#list + 1], list[#list + 2] = now, id
          opened[wanting.open_tasks] = list
        end
        if wanting.waking then write('ZADD', wanting.waking, moment(one.position), id) end
        made[task] = true
        out.handed = out.handed + 1
      end
    end
    if known[1] and skipped > 0 then
      local done = write('HINCRBY', row, 'done:' .. source, skipped)
      -- As many as the row says now: those of a service that came late may have been added.
      if math.max(tonumber(want) or -1, tonumber(known[3]) or -1) == done then
        notes = noted(notes, tell({ stream = notifications, kept = kept, type = 'event.completed', event = event, task = '',
          service = '', event_type = kind.event_type, subject = subject, body = fragment .. ',"data":{"tasks":' .. done
            .. ',"failed":' .. (tonumber(redis.call('HGET', row, 'failed:' .. source) or '0') or 0) .. '}' }))
      end
    end
    if known[1] and #changes > 0 then redis.call('HSET', row, kind.notes, notes or '', unpack(changes)) end
    out.last = one.position
  end
  for _, one in ipairs(marks) do
    if made[one.task] then mark_cancels(one, now) end
  end
  for _, f in pairs(flow_cache) do flow_pump(f, STARTED_AT_ONCE) end
  for key, list in pairs(opened) do
    for i = 1, #list, 1000 do redis.call('ZADD', key, unpack(list, i, math.min(i + 999, #list))) end
  end
  if out.handed > 0 then write('HINCRBY', counters, 'handed_over', out.handed) end
  return out
end

-- The length of the longest of these streams, -1 for none.
local function longest(streams)
  local most = -1
  for key in pairs(streams) do most = math.max(most, redis.call('XLEN', key)) end
  return most
end

-- How many tasks wait in the longest line, -1 for none.
local function longest_line()
  local most = -1
  for _, f in pairs(flow_cache) do most = math.max(most, write('ZCARD', f.line)) end
  return most
end
