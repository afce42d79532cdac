#!lua flags=allow-oom
-- Ends a consumer's reading: what it was given and does not hold (the answer was lost on its way) is given
-- back, and it leaves the group when it holds nothing.
-- KEYS[1] stream (STREAM)
-- ARGV[1] group  ARGV[2] consumer  ARGV[3] owner of what is given back, then the ids that it still holds
-- Returns {how many were given back, 1 if it left the group}.
--#include _queue.lua
local group, me, returned, given, kept, from = ARGV[1], ARGV[2], ARGV[3], 0, {}, '-'
local PAGE = 1000  -- entries in one command
for i = 4, #ARGV do kept[ARGV[i]] = true end
while true do
  local rows = redis.pcall('XPENDING', KEYS[1], group, from, '+', PAGE, me)
  if rows.err then return { 0, 0 } end
  for _, row in ipairs(rows) do
    if not kept[row[1]] then
      give_back(KEYS[1], group, returned, row[1], row[4], 0)
      given = given + 1
    end
  end
  if #rows < PAGE then break end
  from = '(' .. rows[#rows][1]
end
if given > 0 then ring(KEYS[1], group, me, returned) end
if #ARGV > 3 then return { given, 0 } end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, me)
return { given, 1 }
