-- One replica's claim to a lease, as one step: looks, takes, takes over, mends the term, or renews.
--
-- KEYS  the lease (a hash that ends with it), and the record of the latest term (a hash that stays for 30 days after the last
--       renewal)
-- ARGV  1 who asks   2 the lease in ms   3, 4 the latest term that it knows and that term's value
--       5 the value that it wants, or nothing   6 "1" when a lease of its own is due for renewal
--       7 the channel of changes   8 how many fit values follow; the rest are unfit ones
local lease = redis.call('HMGET', KEYS[1], 'holder', 'value', 'term')
local record = redis.call('HMGET', KEYS[2], 'value', 'term')
local holder, value, term = lease[1], lease[2], tonumber(lease[3] or 0)
local last, last_term = record[1], tonumber(record[2] or 0)
local known = tonumber(ARGV[3])
local wanted = ARGV[5]

local fit, unfit = {}, {}
for i = 9, #ARGV do
  if i <= 8 + tonumber(ARGV[8]) then fit[ARGV[i]] = true else unfit[ARGV[i]] = true end
end

-- A term is a number and a value for ever: another value, or a history that was lost, is a greater number.
local after = math.max(known, term, last_term) + 1
local left = ARGV[2]
local changed, renewed = true, true
if not holder then
  if wanted == '' then return {} end
  holder, value, term = ARGV[1], wanted, after
  if last and fit[last] then
    -- It stays when it need not move.
    value = last
    if known < last_term or (known == last_term and ARGV[4] == last) then term = last_term end
  end
elseif wanted ~= '' and wanted ~= value and term <= known
    and (unfit[value] or (holder == ARGV[1] and not fit[value])) then
  -- Only of a term that it knows: what is carried out late must not end a newer one.
  holder, value, term = ARGV[1], wanted, after
elseif term < known or (term == known and ARGV[4] ~= value) then
  term = after
  if holder ~= ARGV[1] then
    left, renewed = math.max(1, redis.call('PTTL', KEYS[1])), false
  end
else
  changed = false
  renewed = holder == ARGV[1] and ARGV[6] == '1' or redis.call('PTTL', KEYS[1]) < 0
  if renewed then redis.call('PEXPIRE', KEYS[1], left) end
end

if renewed then redis.call('PEXPIRE', KEYS[2], 2592000000) end
local number = string.format('%.0f', term)
if changed then
  redis.call('HSET', KEYS[1], 'holder', holder, 'value', value, 'term', number)
  redis.call('PEXPIRE', KEYS[1], left)
  redis.call('HSET', KEYS[2], 'value', value, 'term', number)
  redis.call('PEXPIRE', KEYS[2], 2592000000)
  -- A server that does not permit it has replicas that hear of changes when they look.
  redis.pcall('PUBLISH', ARGV[7], number)
end
return { number, value, holder, renewed and 'renewed' or '' }
