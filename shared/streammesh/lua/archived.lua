#!lua flags=allow-oom
-- Lets go of what is in the history: its stream entries are acknowledged, and rows of what has ended leave when they
-- have been hot. Of an event that leaves the identity stays. What changed since it was read (a replay) stays as it is.
-- KEYS stream (STREAM, of events or of ended tasks)
-- ARGS group, hot (ms), positions (entries that were archived)
-- tasks: KEYS row (HASH) ARGS ended (ms, as archived)
-- events: KEYS row (HASH), identity (SET of whole numbers) ARGS source, done (as archived), ended (ms), name, content,
--   forgotten_at (when the identity may be forgotten, ms)
-- Returns how many rows will leave.
--#include _time.lua
--#include _write.lua
--#include _chunks.lua
local now, leaving = now_ms(), 0
local LARGEST = 2000  -- fields; a row that more sources or tasks than that share leaves when its own time is over

local function leave(row, ended)
  redis.call('PEXPIRE', row, digits(math.max(1, ended + hot - now)))
  leaving = leaving + 1
end

for _, task in ipairs(tasks) do
  local row = redis.pcall('HMGET', task.row, 'ended', 'state', 'streams')
  if not row.err and row[1] == task.ended and row[2] ~= 'queued' then
    leave(task.row, tonumber(task.ended))
    if row[3] then keep_chunks(task.row, row[3], math.max(1, tonumber(task.ended) + hot - now)) end
  end
end

local function is_over(event)
  local size = redis.pcall('HLEN', event.row)
  if type(size) ~= 'number' or size == 0 or size > LARGEST then return false end
  local all, sources = redis.call('HGETALL', event.row), 0
  local want, done = nil, '0'
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 3) == 'at:' then sources = sources + 1 end
    if all[i] == 'want:' .. event.source then want = all[i + 1] end
    if all[i] == 'done:' .. event.source then done = all[i + 1] end
  end
  return sources == 1 and want and done == event.done and tonumber(done) >= tonumber(want)
end

for _, event in ipairs(events) do
  if is_over(event) then
    if event.forgotten_at > now then
      write('SADD', event.identity, event.name, event.content)
      redis.call('PEXPIREAT', event.identity, digits(event.forgotten_at))
    end
    leave(event.row, event.ended)
  end
end
for i = 1, #positions, 1000 do
  redis.pcall('XACK', stream, group, unpack(positions, i, math.min(i + 999, #positions)))
end
return leaving
