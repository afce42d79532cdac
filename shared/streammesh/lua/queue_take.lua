#!lua flags=allow-oom
-- Takes entries over that others were given: those given back, and those whose owner let the lease run out.
-- KEYS streams (STREAM, the most important first)
-- ARGS group, me (the consumer), returned (owner of what was given back),
--   left (at most this many entries that can be begun at once: what waits for a time of its own is taken besides),
--   lease (ms, 0: only what was given back)
-- Returns {{{stream number, id, times delivered, fields}, ...}, longest idle time in ms above half a lease
--   of those not taken, 1 if more was given back than was taken (then others are rung for it)}.
-- Entries that were deleted meanwhile leave the pending list and are not returned.
--#include _queue.lua
local PAGE = 100  -- rows of the pending list looked at in one command
local MOST_LATER = 1000  -- entries that wait for their time, taken over besides: they need no room in a pool
local MOST_LOOKED_AT = 2000  -- entries that are looked into for that
local taken, oldest, remain, later, looks = {}, 0, 0, MOST_LATER, MOST_LOOKED_AT

-- Whether a task in the queue has a time of its own before which it is not begun: a countdown, a retry.
local function waits(stream, id)
  local found = redis.call('XRANGE', stream, id, id)[1]
  if not found then return true end  -- deleted meanwhile: claiming it takes it out of the pending list
  for i = 1, #found[2], 2 do
    if found[2][i] == 'h' then return string.find(found[2][i + 1], '"eta": ?"') ~= nil end
  end
  return false
end

-- Of some rows those that are taken over: as many as there is room for, and what waits for its time.
local function wanted(stream, rows)
  local mine, room = {}, left
  for _, row in ipairs(rows) do
    if room > 0 then
      mine[#mine + 1], room = row, room - 1
    elseif later > 0 and looks > 0 then
      looks = looks - 1
      if waits(stream, row[1]) then mine[#mine + 1], later = row, later - 1 end
    end
  end
  return mine
end

local function take(number, stream, rows)
  if #rows == 0 then return end
  local ids, times = {}, {}
  for i, row in ipairs(rows) do
    ids[i], times[row[1]] = row[1], row[4] + 1
  end
  for _, entry in ipairs(redis.call('XCLAIM', stream, group, me, 0, unpack(ids))) do
    if entry and entry[2] then
      taken[#taken + 1] = { number, entry[1], times[entry[1]], entry[2] }
      left = left - 1
    end
  end
end

-- Most of a queue's streams, one a priority, hold nothing most of the time: one look at each tells.
local held = {}
for number, stream in ipairs(streams) do
  local pending = redis.pcall('XPENDING', stream, group)
  if not pending.err and pending[1] > 0 then held[#held + 1] = { number, stream } end
end

for _, of in ipairs(held) do
  local number, stream, from = of[1], of[2], '-'
  while left > 0 or later > 0 and looks > 0 do
    local rows = redis.pcall('XPENDING', stream, group, from, '+', PAGE, returned)
    if rows.err or #rows == 0 then break end
    take(number, stream, wanted(stream, rows))
    from = '(' .. rows[#rows][1]
    if #rows < PAGE then break end
  end
  local more = redis.pcall('XPENDING', stream, group, '-', '+', 1, returned)
  if not more.err and #more > 0 then
    remain = 1
    ring(stream, group, me, returned)
  end
end
if lease > 0 then
  for _, of in ipairs(held) do
    local number, stream, from = of[1], of[2], '-'
    while true do
      local rows = redis.pcall('XPENDING', stream, group, 'IDLE', math.floor(lease / 2), from, '+', PAGE)
      if rows.err or #rows == 0 then break end
      local stale = {}
      for _, row in ipairs(rows) do
        if row[2] ~= returned then
          if row[3] >= lease then stale[#stale + 1] = row else oldest = math.max(oldest, row[3]) end
        end
      end
      local mine = wanted(stream, stale)
      if #mine < #stale then oldest = math.max(oldest, lease) end
      take(number, stream, mine)
      if #rows < PAGE then break end
      from = '(' .. rows[#rows][1]
    end
  end
end
return { taken, oldest, remain }
