#!lua flags=allow-oom
-- Takes entries over that others were given: those given back, and those whose owner let the lease run out.
-- KEYS[1] and on: streams, the most important first (STREAM)
-- ARGV[1] group  ARGV[2] consumer  ARGV[3] owner of what was given back  ARGV[4] at most this many entries
-- ARGV[5] lease in ms ('0': only what was given back)
-- Returns {{{stream number, id, times delivered, fields}, ...}, longest idle time in ms above half a lease
--   of those not taken, 1 if more was given back than was taken (then others are rung for it)}.
-- Entries that were deleted meanwhile leave the pending list and are not returned.
--#include _queue.lua
local group, me, returned, left, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local PAGE = 100  -- rows of the pending list looked at in one command
local taken, oldest, remain = {}, 0, 0

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

for number, stream in ipairs(KEYS) do
  while left > 0 do
    local rows = redis.pcall('XPENDING', stream, group, '-', '+', math.min(left, PAGE), returned)
    if rows.err or #rows == 0 then break end
    take(number, stream, rows)
  end
  local more = redis.pcall('XPENDING', stream, group, '-', '+', 1, returned)
  if not more.err and #more > 0 then
    remain = 1
    ring(stream, group, me, returned)
  end
end
if lease > 0 then
  for number, stream in ipairs(KEYS) do
    local from = '-'
    while true do
      local rows = redis.pcall('XPENDING', stream, group, 'IDLE', math.floor(lease / 2), from, '+', PAGE)
      if rows.err or #rows == 0 then break end
      local stale = {}
      for _, row in ipairs(rows) do
        if row[2] ~= returned then
          if row[3] >= lease and #stale < left then
            stale[#stale + 1] = row
          else
            oldest = math.max(oldest, row[3])
          end
        end
      end
      take(number, stream, stale)
      if #rows < PAGE then break end
      from = '(' .. rows[#rows][1]
    end
  end
end
return { taken, oldest, remain }
