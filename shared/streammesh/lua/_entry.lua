-- Queue entries: what stands in one, taking some out, setting one aside, and whether anything stands for a task at all.
--#include _write.lua
--#include _packed.lua

-- The fields h and b of a queue entry; nothing where it is gone.
local function queued_fields(queue, entry)
  local found, h, b = redis.pcall('XRANGE', queue, entry, entry), nil, nil
  if #found == 0 then return nil, nil end
  local fields = found[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'h' then h = fields[i + 1] elseif fields[i] == 'b' then b = fields[i + 1] end
  end
  return h, b
end

-- Takes entries out of a queue and of its pending list, with one command where the server has it (Redis 8.2).
-- Answers how many were pending.
local function gone(stream, group, entries)
  if (redis.REDIS_VERSION_NUM or 0) < 0x080200 then
    local acked = redis.call('XACK', stream, group, unpack(entries))
    redis.call('XDEL', stream, unpack(entries))
    return acked
  end
  local others = {}
  for i, answer in ipairs(redis.call('XACKDEL', stream, group, 'IDS', #entries, unpack(entries))) do
    if answer == -1 then others[#others + 1] = entries[i] end  -- in nobody's hands, and left where it was
  end
  if #others > 0 then redis.call('XDEL', stream, unpack(others)) end
  return #entries - #others
end

-- Sets a task of a paused subscription aside: its queue entry moves to the stream where they wait.
-- h = {row, queue, held, holding, name, task, group, entry, lost}
-- Answers whether there was an entry to move.
local function hold(h)
  local found = redis.call('XRANGE', h.queue, h.entry, h.entry)
  if #found == 0 then return false end
  local place = write('XADD', h.held, '*', 'k', h.task, unpack(found[1][2]))
  redis.call('HSET', h.row, 'state', 'held', 'held', place, 'entry', '', 'lease', '0', 'lost', h.lost)
  write('SADD', h.holding, h.name)
  redis.call('XACK', h.queue, h.group, h.entry)
  redis.call('XDEL', h.queue, h.entry)
  return true
end

-- The fields h and b of a task that waits in the due set.
local function due_fields(due_entries, member)
  local lies = redis.pcall('HMGET', due_entries, member, 'h ' .. member, 'b ' .. member)
  if lies.err then return nil, nil end
  if lies[2] then return lies[2], lies[3] or nil end
  local queue, h, b = unpacked(string.sub(member, 6), lies[1] or '')
  if queue then return h, b end
  local read, about = pcall(cjson.decode, lies[1] or '')
  if not read or type(about) ~= 'table' or type(about.h) ~= 'string' or about.h == '' then return nil, nil end
  return about.h, about.b
end

-- When an event was published, as its row says (`at:<source>`): ms and the entry's number as one number, as text. Nothing
-- where it is held, or its row is gone.
local function moment(position)
  local ms, number = string.match(position, '^(%d+)%-(%d+)$')
  return ms and string.format('%.0f', tonumber(ms) * 1000 + math.min(tonumber(number), 999))
end

local function published_at(at)
  return moment(string.match(at or '', '^(%S+) ') or '')
end

-- The last moment, as `published_at` writes them, of an event that came within so many ms of one at `own`.
local function last_in_time(own, within)
  return string.format('%.0f', (math.floor(tonumber(own) / 1000) + tonumber(within)) * 1000 + 999)
end

-- Whether nothing stands for a task that has not ended: no queue entry, no place in the due set or among those set
-- aside, and no run took it along. A workflow's parts are Celery's; nobody knows where they all are.
-- t = {state, entry, workflow, held (its place), task, queue, due, aside (STREAM), run}; one that waits in a line: `is_in_line`.
local function lies_nowhere(t)
  if t.workflow or t.state == 'pending' then return false end
  if t.run then
    local leader = redis.pcall('HMGET', string.match(t.due, '^(.-}:)') .. 'task:' .. t.run, 'batch')
    return leader.err ~= nil or not string.find(' ' .. (leader[1] or '') .. ' ', ' ' .. t.task .. ' ', 1, true)
  end
  if t.state == 'retrying' or t.state == 'waiting' then return redis.pcall('ZSCORE', t.due, 'task:' .. t.task) == false end
  local stream, place = t.queue, t.entry or ''
  if t.state == 'held' then stream, place = t.aside, t.held or '' end
  return string.match(place, '^%d+%-%d+$') ~= nil and #redis.pcall('XRANGE', stream, place, place) == 0
end
