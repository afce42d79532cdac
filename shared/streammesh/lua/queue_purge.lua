#!lua flags=allow-oom
-- Removes entries that nobody holds: those not yet delivered and those given back. What is being run stays.
-- KEYS[1] stream (STREAM)
-- ARGV[1] group  ARGV[2] owner of what was given back  ARGV[3] at most this many in one call
-- Returns {how many were removed, how many of them were doorbells}.
local group, removed, bells, most = ARGV[1], 0, 0, tonumber(ARGV[3])
local last = '-'
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return { 0, 0 } end
for _, row in ipairs(groups) do
  local of = {}
  for i = 1, #row, 2 do of[row[i]] = row[i + 1] end
  if of.name == group then last = '(' .. of['last-delivered-id'] end
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', most)) do
  removed = removed + redis.call('XDEL', KEYS[1], entry[1])
  if entry[2][1] == 'w' then bells = bells + 1 end
end
if last == '-' or removed >= most then return { removed, bells } end
for _, row in ipairs(redis.call('XPENDING', KEYS[1], group, '-', '+', most - removed, ARGV[2])) do
  redis.call('XACK', KEYS[1], group, row[1])
  removed = removed + redis.call('XDEL', KEYS[1], row[1])
end
return { removed, bells }
