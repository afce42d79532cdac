#!lua flags=allow-oom
-- Looks after the flow control of one subscription: notes the limits of its manifest, lets keys go on whose time has come,
-- starts what may start, and mends what does not fit: a key that nobody would start, a place whose task has ended or is not
-- under way, a task that runs without a place. Any number of dispatchers may do so.
-- KEYS flow (HASH, of its limits), flows (SET), due (ZSET), due_entries (HASH)
-- ARGS name (of the task), declared (JSON; '' to leave it as it is), most (tasks that are started),
--   line_from, places_from (members to look on from, '' to not look), page (keys and places that are looked at),
--   tasks (that are under way and were seen without a place)
-- Returns {started, whether there may be more (1 or 0), where to look on in the line, in the places ('' at the end),
-- places that were freed, tasks and keys that were mended}.
--#include _flow.lua
local f = flow_named(string.match(flow, '^(.-}:)'), name, declared ~= '' and declared or nil)
local freed, mended = 0, 0

local function look_at_line()
  local from = line_from
  for _ = 1, page do
    local member = write('ZRANGEBYLEX', f.line, from, '+', 'LIMIT', 0, 1)[1]
    local key, rank = string.match(member or '', '^(%Z*)%z(.*)$')
    if not member then return '' end
    if not key then
      write('ZREM', f.line, member)
    else
      if not write('ZSCORE', f.ready, key) and not write('ZSCORE', f.slow, key) and has_room(f, key) and flow_head(f, key) then
        make_ready(f, key, rank)
        mended = mended + 1
      end
      local ends = f.debounce and tonumber(write('ZSCORE', f.untils, key) or '')
      if ends then  -- the manifest may say less than it did when they came
        ends = math.min(ends, f.now + (f.max_wait or ends))
        local at = math.min(tonumber(write('ZSCORE', f.slow, key) or '') or f.now, ends, f.now + f.debounce)
        write('ZADD', f.untils, digits(ends), key)
        write('ZADD', f.slow, digits(at), key)
      end
      from = '(' .. key .. '\1'
    end
  end
  return from
end

local function look_at_places()
  local from = places_from
  local found = write('ZRANGEBYLEX', f.places, from, '+', 'LIMIT', 0, page)
  for _, member in ipairs(found) do
    local key, task = string.match(member, '^(%Z*)%z(.*)$')
    local row = redis.pcall('HMGET', f.prefix .. 'task:' .. (task or ''), 'state', 'flow')
    local state = not row.err and row[1]
    local only_waits = (state == 'retrying' or state == 'waiting') and not f.keeps
    local under_way = state == 'queued' or state == 'started' or state == 'held' or state == 'retrying' or state == 'waiting'
    if not key or not row[2] or not under_way or only_waits then
      write('ZREM', f.places, member)
      freed = freed + 1
      local head = key and flow_head(f, key)
      if head and has_room(f, key) then make_ready(f, key, string.sub(head, #key + 2)) end
    end
  end
  return #found < page and '' or '(' .. found[#found]
end

for _, task in ipairs(tasks) do
  local row_key = f.prefix .. 'task:' .. task
  local row = redis.pcall('HMGET', row_key, 'state', 'flow', 'run')
  local its, key = flow_of(row_key, not row.err and row[2] or '')
  if its == f and not row[3] and (row[1] == 'queued' or row[1] == 'started') then
    mended = mended + write('ZADD', f.places, 0, key .. '\0' .. task)
  end
end
local line_at = line_from ~= '' and look_at_line() or ''
local places_at = places_from ~= '' and look_at_places() or ''
write('ZREM', due, 'flow:' .. name)
write('HDEL', due_entries, 'flow:' .. name)
for _, key in ipairs(write('ZRANGEBYSCORE', f.slow, '-inf', (f.throttle or f.debounce or f.batch) and digits(f.now) or '+inf', 'LIMIT', 0, most)) do
  write('ZREM', f.slow, key)
  write('ZREM', f.untils, key)
  local head = flow_head(f, key)
  if head then make_ready(f, key, string.sub(head, #key + 2)) end
end
local slack = (f.throttle or f.drop or { 0, 0 })[2]
local idle = write('ZRANGEBYSCORE', f.rates, '-inf', digits(f.now - slack), 'LIMIT', 0, 1000)
if #idle > 0 then write('ZREM', f.rates, unpack(idle)) end
local started, more = flow_pump(f, most)
flow_alarm(f)
if more then
  write('ZADD', due, digits(f.now), 'flow:' .. name)
  write('HSET', due_entries, 'flow:' .. name, cjson.encode({ kind = 'flow', name = name }))
end
if declared == '{}' and redis.call('EXISTS', f.line, f.places) == 0 and redis.call('HEXISTS', flow, 'set') == 0 then
  redis.call('DEL', flow, f.ready, f.slow, f.rates, f.untils, f.runs)
  redis.call('SREM', flows, name)
end
return { started, more and 1 or 0, line_at, places_at, freed, mended }
