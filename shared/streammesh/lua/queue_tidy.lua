#!lua flags=allow-oom
-- Removes consumers from a group that hold nothing and were not heard of for long: their processes died. Of the oldest
-- entries those that were delivered, and are in nobody's hands though nobody acknowledged them, are given back: a server
-- whose append-only file was torn in the middle of a step comes back with such.
-- KEYS streams (STREAM, each)
-- ARGS group, me (the consumer who asks), returned (consumer for entries that were given back), silent (for this long, ms)
-- Returns how many were removed.
--#include _position.lua
--#include _groups.lua
local LOOKED_AT = 32
local removed = 0

local function find_nobodys(stream)
  local last = group_of(stream, group)['last-delivered-id']
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', LOOKED_AT)) do
    if is_before(last, entry[1]) then return end
    if #redis.call('XPENDING', stream, group, entry[1], entry[1], 1) == 0 then
      redis.call('XCLAIM', stream, group, returned, 0, entry[1], 'FORCE', 'JUSTID')
    end
  end
end

for _, stream in ipairs(streams) do
  local members = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if not members.err then
    find_nobodys(stream)
    for _, row in ipairs(members) do
      local of = named(row)
      if of.name ~= me and of.pending == 0 and of.idle > silent then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, of.name)
        removed = removed + 1
      end
    end
  end
end
return removed
