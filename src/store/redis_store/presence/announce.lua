-- One replica says that it is there, and hears what the others have said. The moments are Redis's own.
--
-- KEYS  a hash: a replica's name, and the moment and the words of its last announcement
-- ARGV  1 the replica   2 its words   3 for how long they hold, in ms
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local was_there = redis.pcall('HEXISTS', KEYS[1], ARGV[1])
if type(was_there) == 'table' then
  -- Somebody has put something else there.
  redis.call('DEL', KEYS[1])
  was_there = 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local answer = { string.format('%.0f', now), tostring(was_there) }
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, words = string.match(all[i + 1], '^(%d+) (.*)$')
  if not at or tonumber(at) + tonumber(ARGV[3]) < now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = words
  end
end
return answer
