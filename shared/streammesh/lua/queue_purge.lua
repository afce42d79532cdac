#!lua flags=allow-oom
-- Removes entries that nobody holds: those not yet delivered and those given back. What is being run stays.
-- KEYS stream (STREAM)
-- ARGS group, returned (owner of what was given back), most (entries in one call)
-- Returns {how many were removed, how many of them were doorbells}.
--#include _groups.lua
local removed, bells = 0, 0
local last = '-'
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then return { 0, 0 } end
for _, row in ipairs(groups) do
  local of = named(row)
  if of.name == group then last = '(' .. of['last-delivered-id'] end
end
for _, entry in ipairs(redis.call('XRANGE', stream, last, '+', 'COUNT', most)) do
  removed = removed + redis.call('XDEL', stream, entry[1])
  if entry[2][1] == 'w' then bells = bells + 1 end
end
if last == '-' or removed >= most then return { removed, bells } end
for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', most - removed, returned)) do
  redis.call('XACK', stream, group, row[1])
  removed = removed + redis.call('XDEL', stream, row[1])
end
return { removed, bells }
