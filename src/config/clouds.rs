//! The key `clouds`: a starter selection of objects for each of Salesforce's clouds.
//!
//! Comes in: names of clouds. Goes out: entries behind those of `objects`, with the defaults' settings. What the
//! configuration says itself goes before them, and what the org does not have is left out: they are a start, not a demand.
//! The lists are the one place that says what a cloud means; `docs/configuration.md` shows them.

use super::reader::{Section, near};
use super::tree::Place;
use super::{ObjectSettings, is_glob};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    Sales,
    Service,
    Marketing,
    Commerce,
}

impl Cloud {
    pub const ALL: [Self; 4] = [Self::Sales, Self::Service, Self::Marketing, Self::Commerce];

    pub fn word(self) -> &'static str {
        match self {
            Self::Sales => "sales",
            Self::Service => "service",
            Self::Marketing => "marketing",
            Self::Commerce => "commerce",
        }
    }

    /// API names and globs.
    pub fn objects(self) -> &'static [&'static str] {
        match self {
            Self::Sales => SALES,
            Self::Service => SERVICE,
            Self::Marketing => MARKETING,
            Self::Commerce => COMMERCE,
        }
    }
}

const SALES: &[&str] = &[
    "Account",
    "AccountContactRelation",
    "AccountContactRole",
    "AccountTeamMember",
    "Asset",
    "Campaign",
    "CampaignMember",
    "CampaignMemberStatus",
    "Contact",
    "Contract",
    "Event",
    "Lead",
    "Opportunity",
    "OpportunityContactRole",
    "OpportunityHistory",
    "OpportunityLineItem",
    "OpportunityStage",
    "OpportunityTeamMember",
    "Order",
    "OrderItem",
    "Pricebook2",
    "PricebookEntry",
    "Product2",
    "Quote",
    "QuoteLineItem",
    "RecordType",
    "Task",
    "User",
    "UserRole",
];

const SERVICE: &[&str] = &[
    "Account",
    "AgentWork",
    "Asset",
    "AssignedResource",
    "BusinessHours",
    "Case",
    "CaseComment",
    "CaseContactRole",
    "CaseHistory",
    "CaseMilestone",
    "CaseTeamMember",
    "ChangeRequest",
    "Contact",
    "ContractLineItem",
    "EmailMessage",
    "EmailMessageRelation",
    "Entitlement",
    "EntitlementContact",
    "EntityMilestone",
    "Event",
    "Group",
    "GroupMember",
    "Incident",
    "KnowledgeArticleVersion",
    "LiveChatTranscript",
    "MessagingEndUser",
    "MessagingSession",
    "MilestoneType",
    "Problem",
    "RecordType",
    "ServiceAppointment",
    "ServiceContract",
    "ServiceResource",
    "ServiceTerritory",
    "Task",
    "User",
    "VoiceCall",
    "WorkOrder",
    "WorkOrderLineItem",
];

const MARKETING: &[&str] = &[
    "Account",
    "Campaign",
    "CampaignMember",
    "CampaignMemberStatus",
    "CommSubscription",
    "CommSubscriptionChannelType",
    "CommSubscriptionConsent",
    "CommSubscriptionTiming",
    "Contact",
    "ContactPointConsent",
    "ContactPointEmail",
    "ContactPointPhone",
    "ContactPointTypeConsent",
    "DataUseLegalBasis",
    "DataUsePurpose",
    "EngagementChannelType",
    "Individual",
    "Lead",
    "ListEmail",
    "ListEmailIndividualRecipient",
    "User",
    // Marketing Cloud Connect.
    "et4ae5__*__c",
];

const COMMERCE: &[&str] = &[
    "Account",
    "BuyerAccount",
    "BuyerGroup",
    "BuyerGroupMember",
    "CartCheckoutSession",
    "CartDeliveryGroup",
    "CartDeliveryGroupMethod",
    "CartItem",
    "CartItemPriceAdjustment",
    "CartTax",
    "CartValidationOutput",
    "Contact",
    "Coupon",
    "CreditMemo",
    "CreditMemoLine",
    "FulfillmentOrder",
    "FulfillmentOrderLineItem",
    "Invoice",
    "InvoiceLine",
    "Order",
    "OrderDeliveryGroup",
    "OrderDeliveryGroupSummary",
    "OrderItem",
    "OrderItemSummary",
    "OrderPaymentSummary",
    "OrderSummary",
    "Payment",
    "PaymentAuthorization",
    "Pricebook2",
    "PricebookEntry",
    "Product2",
    "ProductAttribute",
    "ProductCatalog",
    "ProductCategory",
    "ProductCategoryProduct",
    "Promotion",
    "Refund",
    "ReturnOrder",
    "ReturnOrderLineItem",
    "SalesStore",
    "Shipment",
    "ShipmentItem",
    "WebCart",
    "WebStore",
    "WebStoreBuyerGroup",
    "WebStoreCatalog",
];

/// The clouds of the file, each with its place.
pub(super) fn listed(top: &Section<'_>) -> Vec<(Cloud, Place)> {
    let context = top.context();
    let mut clouds: Vec<(Cloud, Place)> = Vec::new();
    for word in top.texts("clouds").unwrap_or_default() {
        let Some(cloud) = Cloud::ALL.into_iter().find(|cloud| cloud.word() == word.text) else {
            let hint = match near(&word.text, Cloud::ALL.into_iter().map(Cloud::word)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "there are `sales`, `service`, `marketing` and `commerce`".to_owned(),
            };
            context.problem(word.place, format!("`{}` is no cloud", word.shown), Some(&hint));
            continue;
        };
        if clouds.iter().all(|(known, _)| *known != cloud) {
            clouds.push((cloud, word.place));
        }
    }
    clouds
}

/// The clouds' entries behind those of `objects`; an object that has an entry of its own has no second one.
pub(super) fn entries(
    clouds: &[(Cloud, Place)],
    base: &ObjectSettings,
    file: &str,
    own: &[ObjectSettings],
) -> Vec<(ObjectSettings, Place)> {
    let mut entries: Vec<(ObjectSettings, Place)> = Vec::new();
    for (cloud, place) in clouds {
        for name in cloud.objects() {
            let is_known = |known: &ObjectSettings| known.name.eq_ignore_ascii_case(name);
            if own.iter().any(is_known) || entries.iter().any(|(known, _)| is_known(known)) {
                continue;
            }
            let (name, place_text) = ((*name).to_owned(), format!("{file}:{place}"));
            let entry = ObjectSettings { name, place: place_text, cloud: Some(*cloud), ..base.clone() };
            entries.push((entry, *place));
        }
    }
    // Names before globs: a glob is to bring what nothing else does.
    entries.sort_by_key(|(entry, _)| is_glob(&entry.name));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::is_avro_name;

    #[test]
    fn every_list_holds_names_once_in_order_and_stands_in_the_documentation() {
        let page = include_str!("../../docs/configuration.md");
        for cloud in Cloud::ALL {
            let names = cloud.objects();
            assert!(names.iter().all(|name| is_avro_name(name) || is_glob(name)), "{cloud:?}");
            assert!(names.is_sorted_by(|one, other| one < other), "{cloud:?}");
            let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let row = format!("| {} | {} |", cloud.word(), listed.join(", "));
            assert!(page.contains(&row), "docs/configuration.md lacks\n{row}");
        }
    }
}
